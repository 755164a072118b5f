"""A `kserve.Model` as a model of this runtime, and so on every interface.

A model that tells its tensors, by `get_input_types` and `get_output_types`, has these as inputs and
outputs and is given `kserve.InferRequest`s. Any other has one Json input, `instance`, and one Json
output, `prediction`, and is given the dictionaries of V1.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np

from omi_kserve import convert_pb
from omi_kserve._pb import open_inference_pb2 as pb
from omi_kserve.convert_v2_tensors import InputTensor, OutputTensor, as_array, datatype_of
from omi_runtime.batch import Column
from omi_runtime.errors import InferenceFailed, InvalidInput
from omi_runtime.loading import import_file
from omi_runtime.model import Model, kebab_case
from omi_runtime.signature import Json, Marker, Signature, Tensor

INSTANCE: Final = "instance"
PREDICTION: Final = "prediction"


def make_class(file: Path, class_name: str) -> type[Model]:
    """The class that stands for a `kserve.Model` subclass.

    Args:
        file: where it is defined; imported when the model is loaded.
        class_name: its name there.
    """
    members = {
        "name": kebab_case(class_name),
        "directory": file.parent,
        "origin": (file, class_name),
        "__doc__": None,
    }
    return type(class_name, (KServeModel,), members)


class KServeModel(Model):
    """One `kserve.Model`, called as KServe's server calls it: preprocess, predict, postprocess."""

    # KServe hands over all the instances of a request at once.
    max_batch_size: ClassVar[int] = 256
    origin: ClassVar[tuple[Path, str]]

    def load(self) -> None:
        """Import it, construct it with its name, and load it unless that has been done."""
        file, class_name = self.origin
        model = getattr(import_file(file), class_name)(self.name)
        if not model.ready:
            model.load()
        if not model.ready:
            raise RuntimeError(f"{class_name}.load has not set self.ready")
        self._model = model
        self._loop = asyncio.new_event_loop()
        inputs, outputs = _markers(model.get_input_types()), _markers(model.get_output_types())
        self._has_tensors = bool(inputs and outputs)
        if self._has_tensors:
            self.signature = Signature.of(inputs, outputs)
        else:
            self.signature = Signature.of({INSTANCE: Json()}, {PREDICTION: Json()})
            if _overrides_explain(model):
                self.explain = self._explain

    def predict(self, **columns: Column) -> Mapping[str, Any]:
        """One call for all the items."""
        if not self._has_tensors:
            return {PREDICTION: self._ask_v1(columns[INSTANCE], "predict")["predictions"]}
        return _read_response(self._ask(_infer_request(self.name, columns, self.signature)))

    def close(self) -> None:
        """Tell it that it is over."""
        self._model.stop()
        self._loop.close()

    def _explain(self, **columns: Column) -> Any:
        return self._ask_v1(columns[INSTANCE], "explain")["explanations"]

    def _ask_v1(self, instances: Column, verb: str) -> Mapping[str, Any]:
        answer = self._ask({"instances": list(instances)}, verb)
        key = "predictions" if verb == "predict" else "explanations"
        if not isinstance(answer, Mapping) or key not in answer:
            raise InferenceFailed(f"the answer has no {key}: expected {{{key!r}: [...]}}")
        return answer

    def _ask(self, payload: Any, verb: str = "predict") -> Any:
        import kserve  # noqa: PLC0415 - it is there once the author's module has been imported
        from kserve.model import InferenceVerb  # noqa: PLC0415

        call = self._model(payload, headers={}, verb=InferenceVerb[verb.upper()])
        try:
            answer = self._loop.run_until_complete(call)
        except kserve.errors.InvalidInput as error:
            raise InvalidInput(str(error)) from error
        # Newer releases give the answer's headers too.
        return answer[0] if isinstance(answer, tuple) else answer


def _markers(types: Sequence[Mapping[str, Any]]) -> dict[str, Marker]:
    return {tensor["name"]: Tensor(tensor["datatype"], _item_shape(tensor)) for tensor in types}


def _item_shape(tensor: Mapping[str, Any]) -> Sequence[int]:
    """Without the batch dimension, which metadata show as a leading -1."""
    shape: Sequence[int] = tensor["shape"]
    return shape[1:] if len(shape) and shape[0] == -1 else shape


def _overrides_explain(model: Any) -> bool:
    import kserve  # noqa: PLC0415 - as above

    explain: Callable[..., Any] = type(model).explain
    return inspect.unwrap(explain) is not kserve.Model.explain


def _infer_request(name: str, columns: Mapping[str, Column], signature: Signature) -> Any:
    import kserve  # noqa: PLC0415 - as above
    from kserve.protocol.grpc import grpc_predict_v2_pb2 as theirs  # noqa: PLC0415

    message = pb.ModelInferRequest(model_name=name)
    for field in signature.inputs:
        array = np.asarray(columns[field.name])
        datatype = datatype_of(field)
        message.inputs.add(name=field.name, datatype=datatype, shape=array.shape)
        output = OutputTensor(field.name, datatype, list(array.shape), array.reshape(-1))
        message.raw_input_contents.append(bytes(output.raw()))
    # Their messages and ours are the same on the wire.
    request = theirs.ModelInferRequest.FromString(message.SerializeToString())
    return kserve.InferRequest.from_grpc(request)


def _read_response(response: Any) -> dict[str, Column]:
    import kserve  # noqa: PLC0415 - as above

    if not isinstance(response, kserve.InferResponse):
        raise InferenceFailed(f"the answer is {type(response).__name__}, expected InferResponse")
    message = pb.ModelInferResponse.FromString(response.to_grpc().SerializeToString())
    raw: Sequence[bytes] = message.raw_output_contents
    return {
        tensor.name: as_array(
            InputTensor(tensor.name, tensor.datatype, tensor.shape, raw[position])
            if raw
            else convert_pb.typed_tensor(tensor)
        )
        for position, tensor in enumerate(message.outputs)
    }
