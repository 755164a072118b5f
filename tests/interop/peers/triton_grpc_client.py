"""tritonclient's gRPC client against a server of Total, Names or Counting; prints what it saw.

Arguments: the port and the name of the model. It cannot be imported beside kserve, whose messages
have the same names.
"""

import json
import queue
import sys

import numpy as np
import tritonclient.grpc as triton

ADDRESS = f"127.0.0.1:{sys.argv[1]}"
MODEL = sys.argv[2]


def triton_total(client):
    values = triton.InferInput("values", [2, 2], "INT32")
    values.set_data_from_numpy(np.array([[1, 2], [3, 4]], np.int32))
    wanted = [triton.InferRequestedOutput("total")]
    answer = client.infer("total", [values], request_id="a", outputs=wanted)
    said = {
        "live": client.is_server_live(),
        "ready": client.is_server_ready(),
        "model": client.is_model_ready("total", "1.0.0"),
        "server": client.get_server_metadata(as_json=True)["name"],
        "metadata": client.get_model_metadata("total", as_json=True),
        "index": client.get_model_repository_index(as_json=True),
        "infer": [answer.get_response().id, answer.as_numpy("total").tolist()],
        "asynchronous": triton_async(client, values),
        "streamed": triton_stream(client, "total", [([values], str(i)) for i in range(5)]),
    }
    for name, ask in (
        ("stranger", lambda: client.infer("stranger", [values])),
        ("version", lambda: client.infer("total", [values], model_version="9")),
        ("load", lambda: client.load_model("total")),
    ):
        try:
            ask()
        except triton.InferenceServerException as error:
            said[name] = [error.status(), error.message()]
    return said


def triton_names(client):
    names = triton.InferInput("names", [1, 2], "BYTES")
    names.set_data_from_numpy(np.array([["né".encode(), b"\xff\x00a"]], dtype=object))
    answer = client.infer("names", [names])
    return {"reversed": [name.hex() for name in answer.as_numpy("reversed").ravel()]}


def triton_counting(client):
    def to(number):
        tensor = triton.InferInput("to", [1], "INT64")
        tensor.set_data_from_numpy(np.array([number], np.int64))
        return [tensor]

    requests = [(to(3), "three"), (to(14), "too many"), (to(1), "one")]
    return {"streamed": triton_stream(client, "counting", requests, final=True)}


def triton_async(client, values):
    answers = queue.Queue()
    client.async_infer("total", [values], lambda result, error: answers.put((result, error)))
    result, error = answers.get(timeout=30)
    return str(error) if error else result.as_numpy("total").tolist()


def triton_stream(client, model, requests, *, final=False):
    answers = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    for inputs, request_id in requests:
        client.async_stream_infer(
            model, inputs, request_id=request_id, enable_empty_final_response=final
        )
    client.stop_stream()  # waits for the answers to what was sent
    seen = []
    while not answers.empty():
        result, error = answers.get()
        if error:
            seen.append(error.message())
            continue
        response = result.get_response()
        values = [result.as_numpy(output.name).tolist() for output in response.outputs]
        seen.append([response.id, values, response.parameters["triton_final_response"].bool_param])
    return seen


ASK = {"total": triton_total, "names": triton_names, "counting": triton_counting}

with triton.InferenceServerClient(ADDRESS) as connected:
    print(json.dumps(ASK[MODEL](connected)))
