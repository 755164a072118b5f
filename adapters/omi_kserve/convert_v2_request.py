"""Bodies of Open Inference Protocol V2 infer requests → the core's types; pure functions.

A body is JSON; or, with the binary tensor extension, JSON and after it the tensors whose
`parameters.binary_data_size` says so, in the order of the inputs; the header
`Inference-Header-Content-Length` says how long the JSON is. With length 0, the raw form, there is
none: the whole body is the only input. (Triton, docs/protocol/extension_binary_data.md)
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from omi_kserve import convert_v2
from omi_kserve.convert_json import read_json
from omi_kserve.convert_v2 import InferRequest
from omi_kserve.convert_v2_tensors import InputTensor, datatype_of, item_shape_of
from omi_runtime import datatypes
from omi_runtime.errors import InvalidInput, InvalidRequest
from omi_runtime.signature import Field, Signature, Tensor

HEADER_LENGTH: Final = b"inference-header-content-length"
BINARY_SIZE: Final = "binary_data_size"
_BINARY: Final = "binary_data"
_ALL_BINARY: Final = "binary_data_output"
_NO_PARAMETERS: Final[Mapping[str, Any]] = {}


@dataclass(slots=True)
class BodyRequest:
    """An infer request, and which of its outputs are to be sent in binary.

    Attributes:
        all_binary: what holds for outputs that are not named in `binary`.
        binary: by output name, what the request says of that output.
        plain: it is one that `convert_plain` can answer.
    """

    infer: InferRequest
    all_binary: bool = False
    binary: Mapping[str, bool] = dataclasses.field(default_factory=dict)
    plain: bool = False

    def is_binary(self, output: str) -> bool:
        """Whether an output is to be sent in binary."""
        return self.binary.get(output, self.all_binary)


def read_request(body: bytes, header_length: bytes | None, signature: Signature) -> BodyRequest:
    """Parse and check an infer request.

    Args:
        body: the whole of it.
        header_length: the value of `Inference-Header-Content-Length`, if there is one.
        signature: of the model.

    Raises:
        InvalidRequest: the body as a whole is malformed.
        InvalidInput: a tensor is; names it.
        NotOffered: it asks for another of Triton's extensions.
    """
    if header_length is None:
        return read_content(read_json(body), signature)
    length = _read_length(header_length, len(body))
    if not length:
        return _read_only_input(body, signature)
    view = memoryview(body)
    return read_content(read_json(view[:length]), signature, _Binary(view[length:]))


class _Binary:
    """What follows the JSON; the tensors take their bytes from it in turn."""

    def __init__(self, data: memoryview) -> None:
        self._data = data

    def take(self, size: Any, name: str) -> memoryview:
        if type(size) is not int or size < 0:
            raise InvalidRequest(
                f"input {name!r}: parameters.{BINARY_SIZE}: expected a whole number, 0 or more"
            )
        if size > len(self._data):
            raise InvalidRequest(
                f"input {name!r}: parameters.{BINARY_SIZE} is {size}, and {len(self._data)} bytes "
                "are left of the body"
            )
        taken, self._data = self._data[:size], self._data[size:]
        return taken

    def check_taken(self) -> None:
        if self._data:
            raise InvalidRequest(f"the body has {len(self._data)} bytes that belong to no input")


def _read_length(text: bytes, size: int) -> int:
    if not text.isdigit() or len(text) > len(str(size)) or int(text) > size:
        raise InvalidRequest(
            f"Inference-Header-Content-Length {text.decode('latin-1')!r} is no length of the JSON "
            f"in a body of {size} bytes"
        )
    return int(text)


def read_content(content: Any, signature: Signature, binary: _Binary | None = None) -> BodyRequest:
    """The same of a body's JSON, parsed, and what follows it."""
    if not isinstance(content, dict):
        raise InvalidRequest("expected a JSON object")
    request_id = content.get("id")
    if request_id is not None and not isinstance(request_id, str):
        raise InvalidRequest("id: expected a string")
    parameters = _read_parameters(content, "parameters")
    tensors = [_read_tensor(tensor, binary) for tensor in _objects(content, "inputs")]
    if binary is not None:
        binary.check_taken()
    outputs = _read_outputs(content)
    infer = convert_v2.read_request(
        signature, tensors, request_id=request_id, outputs=list(outputs), parameters=parameters
    )
    all_binary = _read_switch(parameters, _ALL_BINARY, "parameters") if parameters else False
    if not outputs:
        return BodyRequest(infer, all_binary or False)
    said = {name: asked for name, asked in outputs.items() if asked is not None}
    return BodyRequest(infer, all_binary or False, said)


def _objects(content: dict[str, Any], key: str) -> list[dict[str, Any]]:
    members = content.get(key)
    if not isinstance(members, list) or not all(isinstance(m, dict) for m in members):
        raise InvalidRequest(f"{key}: expected a list of objects")
    return members


def _read_parameters(content: dict[str, Any], where: str) -> Mapping[str, Any]:
    parameters = content.get("parameters")
    if parameters is None:
        return _NO_PARAMETERS
    if not isinstance(parameters, dict):
        raise InvalidRequest(f"{where}: expected an object")
    for name, value in parameters.items():
        if not isinstance(value, str | int | float | bool):
            raise InvalidRequest(f"{where}.{name}: expected a string, number or boolean")
    convert_v2.check_parameters(parameters, where)
    return parameters


def _read_switch(parameters: Mapping[str, Any], name: str, where: str) -> bool | None:
    value = parameters.get(name)
    if value is not None and not isinstance(value, bool):
        raise InvalidRequest(f"{where}.{name}: expected a boolean")
    return value


def _read_outputs(content: dict[str, Any]) -> dict[str, bool | None]:
    """The outputs asked for, in order, each with what is said of its form."""
    if content.get("outputs") is None:
        return {}
    asked: dict[str, bool | None] = {}
    for output in _objects(content, "outputs"):
        name = output.get("name")
        if not isinstance(name, str):
            raise InvalidRequest("outputs: every output needs a name")
        if name in asked:
            raise InvalidRequest(f"output {name!r} is asked for twice")
        where = f"output {name!r}: parameters"
        asked[name] = _read_switch(_read_parameters(output, where), _BINARY, where)
    return asked


def _read_tensor(tensor: dict[str, Any], binary: _Binary | None) -> InputTensor:
    name = tensor.get("name")
    if not isinstance(name, str):
        raise InvalidRequest("inputs: every tensor needs a name")
    parameters = _read_parameters(tensor, f"input {name!r}: parameters")
    shape = tensor.get("shape")
    if not isinstance(shape, list) or not all(
        type(size) is int and 0 <= size < 2**63 for size in shape
    ):
        raise InvalidInput(f"input {name!r}: shape has to be a list of whole numbers, 0 or more")
    return InputTensor(name, tensor.get("datatype"), shape, _data(tensor, parameters, binary, name))


def _data(
    tensor: dict[str, Any], parameters: Mapping[str, Any], binary: _Binary | None, name: str
) -> Any:
    if BINARY_SIZE not in parameters:
        if "data" not in tensor:
            raise InvalidInput(f"input {name!r}: data is missing")
        return tensor["data"]
    if "data" in tensor:
        raise InvalidRequest(
            f"input {name!r}: has both data and parameters.{BINARY_SIZE}: give one"
        )
    if binary is None:
        raise InvalidRequest(
            f"input {name!r}: parameters.{BINARY_SIZE} needs the header "
            "Inference-Header-Content-Length"
        )
    return binary.take(parameters[BINARY_SIZE], name)


def _read_only_input(body: bytes, signature: Signature) -> BodyRequest:
    """The raw form: the body is the input, its shape follows from the size, answers are binary."""
    required = signature.required_names
    names = required if len(required) == 1 else signature.input_names
    if len(names) != 1:
        raise InvalidRequest(
            "Inference-Header-Content-Length 0: a body without JSON is for models with one input, "
            f"and this one takes {', '.join(names)}"
        )
    field = signature.input_by_name[names[0]]
    datatype = datatype_of(field)
    data = body if datatype != "BYTES" else datatypes.frame([body])
    tensor = InputTensor(field.name, datatype, _raw_shape(len(body), field), data)
    return BodyRequest(convert_v2.read_request(signature, [tensor]), all_binary=True)


def _raw_shape(size: int, field: Field) -> list[int]:
    """The shape of a body; the batch size if nothing else varies, else one item's dimension."""
    marker, label = field.marker, f"input {field.name!r}"
    item = list(item_shape_of(field))
    if not isinstance(marker, Tensor) or marker.datatype == "BYTES":
        if any(size not in (1, -1) for size in item):
            raise InvalidRequest(f"{label}: a body without JSON holds one element, not {item}")
        return [1] * (len(item) + 1)
    known = math.prod(n for n in item if n != -1) * datatypes.element_size(marker.datatype)
    if item.count(-1) > 1:
        raise InvalidRequest(f"{label}: a body without JSON does not tell its shape, of {item}")
    if not known or size % known:
        raise InvalidInput(
            f"{label}: has {size} bytes, not a multiple of {known} for {marker.datatype} {item}"
        )
    if -1 in item:
        return [1, *(size // known if n == -1 else n for n in item)]
    return [size // known, *item]
