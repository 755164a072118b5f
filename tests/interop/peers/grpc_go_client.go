// Makes gRPC calls with grpc-go, as it is told by lines of JSON on stdin, and answers each by a line.
// Argument: the server's address. Messages are bytes here: whoever asks encodes and decodes them.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"os"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// Order is one call. A stream sends each request when the one before it has been answered.
type Order struct {
	Method   string            `json:"method"`
	Requests [][]byte          `json:"requests"`
	Metadata map[string]string `json:"metadata"`
	Seconds  float64           `json:"seconds"` // until its deadline
	Cancel   float64           `json:"cancel"`  // seconds until it is cancelled; 0 is never
	Times    int               `json:"times"`   // how often to make it at once; the last is told
}

// Outcome is what became of it. Requests that were made at once have the worst of their codes.
type Outcome struct {
	Code     string              `json:"code"`
	Message  string              `json:"message"`
	Answers  [][]byte            `json:"answers"`
	Trailers map[string][]string `json:"trailers"`
}

type raw struct{}

func (raw) Marshal(v interface{}) ([]byte, error) { return *v.(*[]byte), nil }
func (raw) Unmarshal(b []byte, v interface{}) error {
	*v.(*[]byte) = append([]byte{}, b...)
	return nil
}
func (raw) Name() string { return "proto" }

func call(connection *grpc.ClientConn, order Order) Outcome {
	ctx, cancel := context.WithTimeout(context.Background(), seconds(order.Seconds))
	defer cancel()
	if order.Cancel > 0 {
		time.AfterFunc(seconds(order.Cancel), cancel)
	}
	ctx = metadata.NewOutgoingContext(ctx, metadata.New(order.Metadata))
	outcome := Outcome{Answers: [][]byte{}}
	stream, err := connection.NewStream(
		ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, order.Method)
	if err == nil {
		err = converse(stream, order.Requests, &outcome)
		outcome.Trailers = stream.Trailer()
	}
	outcome.Code = status.Code(err).String()
	outcome.Message = status.Convert(err).Message()
	return outcome
}

func converse(stream grpc.ClientStream, requests [][]byte, outcome *Outcome) error {
	for i := range requests {
		// io.EOF says that the server has ended the call: receiving tells why.
		if err := stream.SendMsg(&requests[i]); err != nil && err != io.EOF {
			return err
		}
		if i == len(requests)-1 {
			break
		}
		var answer []byte
		if err := stream.RecvMsg(&answer); err != nil {
			return err
		}
		outcome.Answers = append(outcome.Answers, answer)
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	for {
		var answer []byte
		if err := stream.RecvMsg(&answer); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		outcome.Answers = append(outcome.Answers, answer)
	}
}

func repeat(connection *grpc.ClientConn, order Order) Outcome {
	var wait sync.WaitGroup
	outcomes := make([]Outcome, max(1, order.Times))
	for i := range outcomes {
		wait.Add(1)
		go func(i int) {
			defer wait.Done()
			outcomes[i] = call(connection, order)
		}(i)
	}
	wait.Wait()
	for _, outcome := range outcomes {
		if outcome.Code != "OK" {
			return outcome
		}
	}
	return outcomes[0]
}

func seconds(n float64) time.Duration {
	return time.Duration(n * float64(time.Second))
}

func main() {
	limit := 1 << 30
	connection, err := grpc.Dial(os.Args[1], grpc.WithInsecure(), grpc.WithDefaultCallOptions(
		grpc.ForceCodec(raw{}), grpc.MaxCallRecvMsgSize(limit), grpc.MaxCallSendMsgSize(limit)))
	if err != nil {
		panic(err)
	}
	defer connection.Close()
	answers := json.NewEncoder(os.Stdout)
	orders := json.NewDecoder(bufio.NewReader(os.Stdin))
	for {
		var order Order
		if err := orders.Decode(&order); err == io.EOF {
			return
		} else if err != nil {
			panic(err)
		}
		if err := answers.Encode(repeat(connection, order)); err != nil {
			panic(err)
		}
	}
}
