"""What the gRPC transport carries: sizes and their limits, compression, and no need of IPv6."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import grpc
import pytest
from clients import MODELS
from clients.omi import channel_to
from omi_grpc._pb import model_pb2 as pb

MIB = 1024 * 1024


@pytest.fixture
def serve(servers: Any) -> Any:
    def start(**settings: str) -> Any:
        return servers(INTERFACE="omi", OMI_MODEL=f"{MODELS}:Echo", **settings)

    return start


def run(
    channel: grpc.Channel,
    payload: bytes,
    *metadata: tuple[str, str],
    compression: grpc.Compression | None = None,
) -> pb.RunResponse:
    method = channel.unary_unary(
        "/ModzyModel/Run", pb.RunRequest.SerializeToString, pb.RunResponse.FromString
    )
    request = pb.RunRequest(inputs=[pb.InputItem(input={"data": payload})])
    return method(request, timeout=60, metadata=metadata, compression=compression)


def echoed(answer: pb.RunResponse) -> bytes:
    (output,) = answer.outputs
    assert output.success, output.output["error"]
    return output.output["echo"]


@contextmanager
def counted(port: int) -> Iterator[tuple[int, list[int]]]:
    """A way to the port on which bytes are counted: to the server and back."""
    counts = [0, 0]

    def pump(source: socket.socket, sink: socket.socket, way: int) -> None:
        with suppress(OSError):  # the other end has gone
            while data := source.recv(65536):
                counts[way] += len(data)
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def relay() -> None:
        client, _ = listener.accept()
        with client, socket.create_connection(("127.0.0.1", port)) as server:
            back = threading.Thread(target=pump, args=[server, client, 1])
            back.start()
            pump(client, server, 0)
            back.join()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        relaying = threading.Thread(target=relay)
        relaying.start()
        yield listener.getsockname()[1], counts
    relaying.join()


def test_nearly_250_mib_go_both_ways(serve: Any) -> None:
    server = serve()
    payload = bytes(range(256)) * (249 * 4096)
    with channel_to(server.port("omi")) as channel:
        assert echoed(run(channel, payload)) == payload


def test_a_request_over_the_limit_is_refused_and_told_the_variable(serve: Any) -> None:
    server = serve(OMI_MAX_REQUEST_BYTES="100000")
    with channel_to(server.port("omi")) as channel:
        assert len(echoed(run(channel, bytes(99_000)))) == 99_000
        for compression in (None, grpc.Compression.Gzip):
            with pytest.raises(grpc.RpcError) as refused:
                run(channel, bytes(50 * MIB), compression=compression)
            assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "100000 bytes, which OMI_MAX_REQUEST_BYTES allows" in refused.value.details()
        assert len(echoed(run(channel, b"well"))) == 4


def test_an_answer_over_the_limit_names_the_variable(serve: Any) -> None:
    server = serve(OMI_MAX_RESPONSE_BYTES="100000")
    with channel_to(server.port("omi")) as channel:
        with pytest.raises(grpc.RpcError) as refused:
            run(channel, bytes(100_000))
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "OMI_MAX_RESPONSE_BYTES allows 100000" in refused.value.details()
        assert len(echoed(run(channel, bytes(99_000)))) == 99_000


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_compressed_requests_are_read_and_answered_alike(
    serve: Any, compression: grpc.Compression
) -> None:
    server = serve()
    payload = b"text " * MIB
    with counted(server.port("omi")) as (port, counts), channel_to(port) as channel:
        assert echoed(run(channel, payload, compression=compression)) == payload
        to_server, back = counts
    assert to_server < len(payload) / 50
    assert back < len(payload) / 50


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_large_answers_are_compressed_if_the_metadata_ask_for_it(serve: Any, coding: str) -> None:
    server = serve()
    payload = b"text " * MIB
    with counted(server.port("omi")) as (port, counts), channel_to(port) as channel:
        assert echoed(run(channel, payload, ("accept-encoding", coding))) == payload
        assert counts[1] < len(payload) / 50
        small = bytes(1000)
        before = counts[1]
        assert echoed(run(channel, small, ("accept-encoding", coding))) == small
        assert counts[1] - before > len(small), "a small one goes as it is"
        for metadata in ([("accept-encoding", "br")], []):  # grpc-accept-encoding is always there
            before = counts[1]
            assert echoed(run(channel, payload, *metadata)) == payload
            assert counts[1] - before > len(payload)
