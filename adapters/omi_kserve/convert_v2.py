"""Open Inference Protocol V2 requests ↔ the core's types, for REST and gRPC alike; pure functions.

A wire's own module turns its messages into `InputTensor`s, and `OutputTensor`s into its messages;
all that the protocol says of requests, batches, requested outputs and metadata is here, and of one
tensor in `convert_v2_tensors`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from omi_kserve.convert_v2_tensors import (
    InputTensor,
    OutputTensor,
    datatype_of,
    item_shape_of,
    read_tensor,
    write_tensor,
)
from omi_runtime.batch import Batch, Column, Result
from omi_runtime.card import ModelCard
from omi_runtime.errors import (
    InvalidInput,
    InvalidRequest,
    NotOffered,
    OMIError,
)
from omi_runtime.provenance import MODEL_KEY
from omi_runtime.runner import NOTHING_MORE, Wanted
from omi_runtime.signature import Field, Json, Signature

PLATFORM: Final = "omi_python"

_PROPERTIES: Final = ("title", "author", "summary", "source")

EXPLAIN: Final = "explain"
DETECT_DRIFT: Final = "detect_drift"
"""Request parameters of this runtime's own, and the names of the outputs that answer them."""

_NOT_OFFERED: Final = {
    "classification": "classification",
    "shared_memory_region": "shared memory",
}
"""Parameters of Triton's that change what a tensor is: to ignore them would be a wrong answer."""


@dataclass(slots=True)
class InferRequest:
    """What an infer request asks for.

    Attributes:
        id: echoed if given, else None.
        batched: whether the tensors have the batch dimension.
        outputs: the requested outputs in the order asked for, or None for all.
        wanted: explanation and drift, of the request's parameters.
    """

    id: str | None
    batch: Batch
    batched: bool
    outputs: Sequence[str] | None = None
    wanted: Wanted = NOTHING_MORE

    def check_offered(self, model: str, *, explains: bool, detects_drift: bool) -> None:
        """Refuse to be asked for what the model does not have.

        Raises:
            NotOffered: names what.
        """
        if self.wanted.explanation and not explains:
            raise NotOffered(f"model {model} has no explain")
        if self.wanted.drift and not detects_drift:
            raise NotOffered(f"model {model} has no drift")


def model_metadata(card: ModelCard, signature: Signature) -> dict[str, Any]:
    """The metadata of the model: names, datatypes and shapes, with the batch dimension.

    `properties` are what the card says of the model, where it says something.
    """
    said = {name: getattr(card, name) for name in _PROPERTIES}
    properties = {name: text for name, text in said.items() if text and text != card.name}
    if card.digest:
        properties[MODEL_KEY] = card.identity
    return {
        "name": card.name,
        **({"versions": [card.version]} if card.version else {}),
        "platform": PLATFORM,
        "inputs": [_tensor_metadata(field) for field in signature.inputs],
        "outputs": [
            _tensor_metadata(field, streaming=signature.streaming) for field in signature.outputs
        ],
        **({"properties": properties} if properties else {}),
    }


def check_parameters(names: Iterable[str], where: str) -> None:
    """Refuse parameters that ask for an extension that is not here.

    Args:
        names: of the parameters of a request, an input or a requested output.
        where: whose, for the message.

    Raises:
        NotOffered: names the parameter.
    """
    for name in names:
        if name in _NOT_OFFERED:
            raise NotOffered(f"{where}.{name}: {_NOT_OFFERED[name]} is not offered here")


def read_request(
    signature: Signature,
    tensors: Iterable[InputTensor],
    *,
    request_id: str | None = None,
    outputs: Sequence[str] = (),
    parameters: Mapping[str, Any] | None = None,
) -> InferRequest:
    """Check an infer request and turn its tensors into a batch.

    Args:
        signature: of the model.
        tensors: the inputs.
        request_id: None if there is none.
        outputs: the names asked for; none is all. `explain` and `detect_drift` may be among them
            where the parameters ask for these.
        parameters: of the request; of them `explain` and `detect_drift` are read here.

    Raises:
        InvalidRequest: the request as a whole is malformed.
        InvalidInput: a tensor is; names it.
    """
    columns: dict[str, Column] = {}
    kinds: set[bool] = set()
    for tensor in tensors:
        column, batched = read_tensor(tensor, signature)
        if tensor.name in columns:
            raise InvalidRequest(f"input {tensor.name!r} is given twice")
        columns[tensor.name] = column
        kinds.add(batched)
    if len(kinds) > 1:
        raise InvalidInput("some inputs have a batch dimension and some have not: give all one")
    sizes = {name: len(column) for name, column in columns.items()}
    if len(set(sizes.values())) > 1:
        raise InvalidInput(f"the inputs have different batch sizes: {sizes}")
    n = next(iter(sizes.values()), 0)
    if not sizes and signature.required_names:
        raise InvalidInput(f"inputs: expected {', '.join(signature.required_names)}")
    wanted = _read_wanted(parameters) if parameters else NOTHING_MORE
    if outputs:
        _check_outputs(outputs, signature, wanted)
    return InferRequest(request_id, Batch(columns, n), kinds != {False}, outputs or None, wanted)


def write_outputs(
    request: InferRequest, result: Result, signature: Signature, model: str
) -> list[OutputTensor]:
    """The outputs asked for, or all; then explanation and drift that are not named among them.

    Raises:
        OMIError: an item failed, or an output is no tensor; names it.
    """
    result.raise_error()
    fields = {field.name: field for field in signature.outputs}
    names = fields if request.outputs is None else request.outputs
    extra = {} if request.wanted is NOTHING_MORE else _extra_outputs(request, result)
    outputs = [
        write_tensor(model, fields[name], result.columns[name], batched=request.batched)
        if name in fields
        else extra.pop(name)
        for name in names
    ]
    return [*outputs, *extra.values()]


def _tensor_metadata(field: Field, *, streaming: bool = False) -> dict[str, Any]:
    # A model that yields has a list of values for each item; a list of JSON is JSON itself.
    values = [-1] if streaming and not isinstance(field.marker, Json) else []
    return {
        "name": field.name,
        "datatype": datatype_of(field),
        "shape": [-1, *values, *item_shape_of(field)],
    }


def _check_outputs(names: Sequence[str], signature: Signature, wanted: Wanted) -> None:
    asked = zip((EXPLAIN, DETECT_DRIFT), wanted, strict=True)
    known = [field.name for field in signature.outputs] + [name for name, yes in asked if yes]
    for name in names:
        if name not in known:
            raise InvalidInput(f"unknown output {name!r}: this model gives {', '.join(known)}")
        if names.count(name) > 1:
            raise InvalidRequest(f"output {name!r} is asked for twice")


def _read_wanted(parameters: Mapping[str, Any]) -> Wanted:
    wanted = Wanted(*(_read_switch(parameters, name) for name in (EXPLAIN, DETECT_DRIFT)))
    return wanted if any(wanted) else NOTHING_MORE


def _read_switch(parameters: Mapping[str, Any], name: str) -> bool:
    value = parameters.get(name, False)
    if not isinstance(value, bool):
        raise InvalidRequest(f"parameters.{name}: expected a boolean")
    return value


def _extra_outputs(request: InferRequest, result: Result) -> dict[str, OutputTensor]:
    """Explanation and drift as BYTES outputs of JSON text.

    A failed drift is null, for it never fails a prediction; a failed explanation is the error.
    """
    outputs = {}
    for name, asked, values in (
        (EXPLAIN, request.wanted.explanation, result.explanation),
        (DETECT_DRIFT, request.wanted.drift, result.drift),
    ):
        if not asked:
            continue
        answers = values or []
        failed = {row: value for row, value in enumerate(answers) if isinstance(value, OMIError)}
        if name == EXPLAIN:
            Result({}, result.n, failed).raise_error()
        texts = [b"null" if row in failed else value for row, value in enumerate(answers)]
        shape = [len(texts)] if request.batched else []
        outputs[name] = OutputTensor(name, "BYTES", shape, texts)
    return outputs
