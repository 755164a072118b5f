"""KServe's own ModelServer around models as its users write them: nothing here is this project's.

python kserve_plain.py REST_PORT GRPC_PORT

`total` and `datatypes` do what the models of those names in tests/adapters/models.py do, by the
means that the SDK's documentation shows; `gate` and `door` wait for a file as its Gate does.
"""

import asyncio
import sys
import time
from pathlib import Path

import numpy as np
from kserve import InferOutput, InferResponse, Model, ModelServer
from kserve.errors import InferenceError, InvalidInput, ModelNotReady
from kserve.utils.utils import generate_uuid

PATIENCE = 60.0


def answer(model, request, tensors):
    """Tensors by name, in the form that was asked for."""
    outputs = []
    for name, datatype, values in tensors:
        output = InferOutput(name, list(values.shape), datatype)
        output.set_data_from_numpy(values, binary_data=request.use_binary_outputs)
        outputs.append(output)
    return InferResponse(
        response_id=request.id or generate_uuid(),
        model_name=model.name,
        infer_outputs=outputs,
        use_binary_outputs=request.use_binary_outputs,
        requested_outputs=request.request_outputs,
    )


class Total(Model):
    """Sums rows of two; some numbers ask for trouble."""

    def get_input_types(self):
        return [{"name": "values", "datatype": "INT32", "shape": [-1, 2]}]

    def get_output_types(self):
        return [{"name": "total", "datatype": "INT64", "shape": [-1]}]

    def predict(self, payload, headers=None):
        if isinstance(payload, dict | bytes):
            return {"predictions": [sum(row) for row in payload["instances"]]}
        values = payload.inputs[0].as_numpy()
        if 13 in values:
            raise InvalidInput("thirteen is refused")
        if 666 in values:
            raise RuntimeError("the beast")
        if 667 in values:
            raise InferenceError("the neighbour of the beast")
        if 668 in values:
            raise ModelNotReady(self.name)
        return answer(self, payload, [("total", "INT64", values.sum(axis=1, dtype=np.int64))])


class Datatypes(Model):
    """Answers every tensor with itself."""

    def predict(self, payload, headers=None):
        tensors = [(one.name, one.datatype, one.as_numpy()) for one in payload.inputs]
        return answer(self, payload, tensors)


class Gate(Model):
    """Makes the file that it is given, and waits for `FILE.open` beside it, as a plain function."""

    def predict(self, payload, headers=None):
        path, opened = _files(payload)
        path.touch()
        deadline = time.monotonic() + PATIENCE
        while not opened.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        return {"predictions": ["open"]}


class Door(Model):
    """The same, as a coroutine."""

    async def predict(self, payload, headers=None):
        path, opened = _files(payload)
        path.touch()
        deadline = time.monotonic() + PATIENCE
        while not opened.exists() and time.monotonic() < deadline:  # noqa: ASYNC110 - it is a file
            await asyncio.sleep(0.01)
        return {"predictions": ["open"]}


def _files(payload):
    (path,) = payload["instances"]
    return Path(path), Path(path + ".open")


models = [Total("total"), Datatypes("datatypes"), Gate("gate"), Door("door")]
for model in models:
    model.load()
rest, grpc = (int(port) for port in sys.argv[1:])
ModelServer(http_port=rest, grpc_port=grpc).start(models)
