"""Ask a V2 REST server everything that tritonclient's HTTP client can, and print it as JSON.

python triton_http.py HOST:PORT MODEL

MODEL is total or words: the models of tests/adapters/models.py, one of which is served there.
"""

import json
import sys

import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException


def tensor(name, array, datatype, *, binary):
    """An input, in binary or JSON."""
    made = triton.InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array, binary_data=binary)
    return made


def refused(call):
    """The error that a call ends with."""
    try:
        call()
    except InferenceServerException as error:
        return [error.status(), error.message()]
    return None


def about(client, model):
    """What the client can learn of server and model."""
    return {
        "live": client.is_server_live(),
        "ready": client.is_server_ready(),
        "model": client.is_model_ready(model),
        "version": client.is_model_ready(model, "1.0.0"),
        "other": client.is_model_ready("other"),
        "server": client.get_server_metadata(),
        "metadata": client.get_model_metadata(model),
        "index": client.get_model_repository_index(),
    }


def tensors(client):
    """Numbers, in every combination of binary and JSON, compressed, and at once."""
    values = np.array([[1, 2], [30, 40]], np.int32)
    said = {}
    for sent in (True, False):
        for wanted in (True, False):
            result = client.infer(
                "total",
                [tensor("values", values, "INT32", binary=sent)],
                outputs=[triton.InferRequestedOutput("total", binary_data=wanted)],
                request_id="7",
            )
            answer = result.as_numpy("total")
            said[f"{sent} {wanted}"] = [str(answer.dtype), answer.tolist()]
    inputs = [tensor("values", values, "INT32", binary=True)]
    said["all"] = client.infer("total", inputs).as_numpy("total").tolist()
    said["version"] = client.infer("total", inputs, "1.0.0").as_numpy("total").tolist()
    said["id"] = client.infer("total", inputs, request_id="7").get_response()["id"]
    explained = client.infer("total", inputs, parameters={"explain": True})
    said["explained"] = [text.decode() for text in explained.as_numpy("explain")]
    pending = [client.async_infer("total", inputs) for _ in range(8)]
    said["async"] = [request.get_result().as_numpy("total").tolist() for request in pending]
    said["refused"] = refused(lambda: client.infer("other", inputs))
    wrong = [tensor("values", values.astype(np.int64), "INT64", binary=True)]
    said["wrong"] = refused(lambda: client.infer("total", wrong))
    return said


def words(client):
    """BYTES, in binary and JSON."""
    text = np.array(["naïve".encode(), b"plain"], dtype=object)
    said = {}
    for binary in (True, False):
        inputs = [tensor("text", text, "BYTES", binary=binary)]
        wanted = [triton.InferRequestedOutput("loud", binary_data=binary)]
        answer = client.infer("words", inputs, outputs=wanted).as_numpy("loud")
        said[str(binary)] = [e.decode() if isinstance(e, bytes) else e for e in answer.tolist()]
    return said


def repository(client, model):
    """Unload, and load again."""
    client.unload_model(model)
    index = client.get_model_repository_index()
    ready = client.is_model_ready(model)
    client.load_model(model)
    return {"unloaded": index, "ready": ready, "loaded": client.is_model_ready(model)}


def main(address, model):
    client = triton.InferenceServerClient(address, concurrency=8, network_timeout=60)
    said = {"about": about(client, model)}
    said["answers"] = tensors(client) if model == "total" else words(client)
    said["repository"] = repository(client, model)
    print(json.dumps(said))


main(*sys.argv[1:])
