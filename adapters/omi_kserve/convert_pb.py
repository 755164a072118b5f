"""Messages of `inference.GRPCInferenceService` ↔ the core's types; pure functions.

The elements of tensors are either all in the message's raw form or all in typed `contents`, and are
answered in the form that the request has. FP16 and BF16 have no typed form.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np

from omi_kserve import convert_v2
from omi_kserve._pb import open_inference_pb2 as pb
from omi_kserve.convert_v2 import InferRequest
from omi_kserve.convert_v2_tensors import InputTensor, OutputTensor
from omi_kserve.raw_contents import Contents, RawRequest, RawResponse
from omi_runtime import datatypes
from omi_runtime.card import ModelCard
from omi_runtime.errors import InvalidInput, InvalidRequest
from omi_runtime.signature import Signature

CONTENTS: Final[dict[str, str]] = {
    "BOOL": "bool_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""Datatype → the field of InferTensorContents that has its elements; FP16 and BF16 have none."""

_DTYPES: Final[dict[str, Any]] = {
    "bool_contents": np.bool_,
    "uint_contents": np.uint32,
    "uint64_contents": np.uint64,
    "int_contents": np.int32,
    "int64_contents": np.int64,
    "fp32_contents": np.float32,
    "fp64_contents": np.float64,
}

Parameters = Mapping[str, pb.InferParameter]


def read_request(request: RawRequest, signature: Signature) -> InferRequest:
    """Check an infer request and turn its tensors into a batch.

    Raises:
        InvalidRequest: the request as a whole is malformed.
        InvalidInput: a tensor is; names it.
        NotOffered: it asks for an extension that is not here.
    """
    message, contents = request.message, request.contents
    for tensor in message.inputs:
        convert_v2.check_parameters(tensor.parameters, f"input {tensor.name!r}: parameters")
    for output in message.outputs:
        convert_v2.check_parameters(output.parameters, f"output {output.name!r}: parameters")
    convert_v2.check_parameters(message.parameters, "parameters")
    return convert_v2.read_request(
        signature,
        _raw_inputs(message, contents) if contents else map(typed_tensor, message.inputs),
        request_id=message.id or None,
        outputs=[output.name for output in message.outputs],
        parameters=read_parameters(message.parameters),
    )


def read_parameters(parameters: Parameters) -> dict[str, Any]:
    """Parameters as plain values; None for one that has no value."""
    return {name: _value(parameter) for name, parameter in parameters.items()}


def write_response(
    request: InferRequest, outputs: Iterable[OutputTensor], card: ModelCard, *, raw: bool
) -> RawResponse:
    """The answer; `raw` is the form of the request, and of the answer unless that has FP16 or BF16.

    Raises:
        InvalidInput: a BYTES element is too long for the raw form.
    """
    outputs = list(outputs)
    response = pb.ModelInferResponse(
        model_name=card.name, model_version=card.version, id=request.id or ""
    )
    raw = raw or any(output.datatype not in CONTENTS for output in outputs)
    contents: list[bytes | memoryview] = []
    for output in outputs:
        tensor = response.outputs.add(
            name=output.name, datatype=output.datatype, shape=output.shape
        )
        if raw:
            contents.append(output.raw())
        else:
            _fill(tensor.contents, output)
    return RawResponse(response, contents)


def model_metadata(card: ModelCard, signature: Signature) -> pb.ModelMetadataResponse:
    """The metadata of the model: names, datatypes and shapes, with the batch dimension."""
    metadata = convert_v2.model_metadata(card, signature)
    return pb.ModelMetadataResponse(**metadata)


def typed_tensor(
    tensor: pb.ModelInferRequest.InferInputTensor | pb.ModelInferResponse.InferOutputTensor,
) -> InputTensor:
    """A tensor whose elements are in its `contents`.

    Raises:
        InvalidInput: they are in the field of another datatype.
    """
    field = CONTENTS.get(tensor.datatype)
    for given, _ in tensor.contents.ListFields():
        if given.name != field:
            expected = field or "none: it travels in raw_input_contents only"
            raise InvalidInput(
                f"input {tensor.name!r}: has elements in {given.name}; of {tensor.datatype} they "
                f"belong in {expected}"
            )
    elements = getattr(tensor.contents, field) if field else ()
    data = (
        np.array(elements, _DTYPES[field])
        if field in _DTYPES
        else datatypes.object_array(list(elements))
    )
    return InputTensor(tensor.name, tensor.datatype, tensor.shape, data)


def _raw_inputs(message: pb.ModelInferRequest, contents: Contents) -> Iterable[InputTensor]:
    if len(contents) != len(message.inputs):
        raise InvalidRequest(
            f"raw_input_contents: has {len(contents)} members for {len(message.inputs)} inputs: "
            "give the bytes of every input"
        )
    for tensor, data in zip(message.inputs, contents, strict=True):
        if tensor.HasField("contents"):
            raise InvalidRequest(
                f"input {tensor.name!r}: has contents beside raw_input_contents: give all inputs "
                "in one form"
            )
        yield InputTensor(tensor.name, tensor.datatype, tensor.shape, data)


def _fill(contents: pb.InferTensorContents, output: OutputTensor) -> None:
    field = getattr(contents, CONTENTS[output.datatype])
    elements = output.elements
    if output.datatype == "BYTES":
        field.extend(output.bytes_elements())
    else:
        assert isinstance(elements, np.ndarray), "only BYTES may be a list"
        field.extend(elements.tolist())  # several times faster than from numpy's own scalars


def _value(parameter: pb.InferParameter) -> Any:
    kind = parameter.WhichOneof("parameter_choice")
    return None if kind is None else getattr(parameter, kind)
