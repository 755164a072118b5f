"""Models of KServe's SDK, as its users write them."""

import kserve
from kserve import InferOutput, InferResponse, Model
from kserve.errors import InvalidInput


class Doubling(Model):
    """V1: dictionaries, one prediction for each instance; loads itself when it is constructed."""

    def __init__(self, name: str):
        super().__init__(name)
        self.load()

    def load(self) -> bool:
        self.factor = 2
        self.ready = True
        return self.ready

    def preprocess(self, payload, headers=None):
        for instance in payload["instances"]:
            if not isinstance(instance, int | float):
                raise InvalidInput(f"{instance!r} is no number")
        return payload

    def predict(self, payload, headers=None):
        return {"predictions": [self.factor * instance for instance in payload["instances"]]}

    def explain(self, payload, headers=None):
        return {
            "predictions": [],
            "explanations": [{"factor": self.factor}] * len(payload["instances"]),
        }


class Summing(kserve.Model):
    """V2: tensors that it tells of; asynchronous; loaded by the server."""

    def load(self) -> bool:
        self.ready = True
        return self.ready

    def get_input_types(self):
        return [{"name": "pair", "datatype": "FP32", "shape": [-1, 2]}]

    def get_output_types(self):
        return [{"name": "sum", "datatype": "FP32", "shape": [-1]}]

    async def predict(self, payload, headers=None):
        sums = payload.inputs[0].as_numpy().sum(axis=1)
        output = InferOutput(name="sum", shape=list(sums.shape), datatype="FP32")
        output.set_data_from_numpy(sums)
        return InferResponse(response_id="", model_name=self.name, infer_outputs=[output])


class Unready(kserve.Model):
    """Never says that it is ready."""

    def load(self) -> bool:
        return False
