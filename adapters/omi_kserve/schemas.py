"""JSON Schemas of the model's own values, for the OpenAPI document; pure functions.

They say what is accepted and given as far as JSON Schema can: not that a tensor has as many
elements as its shape says.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import orjson

from omi_kserve.convert_generate import TextFields
from omi_kserve.convert_v2_tensors import datatype_of, item_shape_of
from omi_runtime import examples
from omi_runtime.datatypes import DTYPES
from omi_runtime.nan import NanPolicy
from omi_runtime.signature import Bytes, Field, Json, Signature, Tensor, Text

Schema = dict[str, Any]

ERROR: Final[Schema] = {
    "type": "object",
    "properties": {"error": {"type": "string"}},
    "required": ["error"],
    "additionalProperties": False,
}
_TEXT_OR_NULL: Final[Schema] = {"type": ["string", "null"]}
_PARAMETERS: Final[Schema] = {
    "type": ["object", "null"],
    "additionalProperties": {"type": ["string", "number", "boolean"]},
}
_SIZE: Final[Schema] = {"type": "integer", "minimum": 0}
_BASE64: Final[Schema] = {
    "type": "object",
    "properties": {"b64": {"type": "string", "contentEncoding": "base64"}},
    "required": ["b64"],
    "additionalProperties": False,
}


class ModelSchemas:
    """The schemas of one model.

    Args:
        signature: of the model.
        nan: what becomes of NaN in answers.
        extra_outputs: of V2, what the request's parameters may ask for beside the model's own.

    Attributes:
        components: what they refer to, by name.
    """

    def __init__(
        self, signature: Signature, nan: NanPolicy, extra_outputs: Sequence[str] = ()
    ) -> None:
        self._signature = signature
        self._nan = nan
        self._extra_outputs = extra_outputs
        self.components: dict[str, Schema] = {"Error": ERROR}

    def v1_request(self) -> Schema:
        """`{"instances": […]}` or `{"inputs": […]}`, in rows or columns."""
        inputs = self._signature.inputs
        values = {field.name: self._value(field) for field in inputs}
        named = _object(values, [field.name for field in inputs if field.required])
        columns = _object(
            {name: _list(schema) for name, schema in values.items()}, list(named["required"])
        )
        instance = named
        if len(inputs) == 1:
            value = values[inputs[0].name]
            instance = value if isinstance(inputs[0].marker, Json) else {"anyOf": [value, named]}
        rows = _list({"$ref": "#/components/schemas/Instance"})
        self.components["Instance"] = instance
        by_inputs = {"anyOf": [rows, columns | {"minProperties": 1}]}
        return {
            "type": "object",
            "oneOf": [
                {"properties": {"instances": rows}, "required": ["instances"]},
                {"properties": {"inputs": by_inputs}, "required": ["inputs"]},
            ],
        }

    def v1_response(self, *, explanations: bool = False) -> Schema:
        """`{"predictions": […]}`."""
        outputs = self._signature.outputs
        values = {field.name: self._output(field) for field in outputs}
        prediction = _object(values, list(values)) if len(values) > 1 else values[outputs[0].name]
        self.components["Prediction"] = prediction
        properties = {"predictions": _list({"$ref": "#/components/schemas/Prediction"})}
        if explanations:
            properties["explanations"] = {"type": "array"}
        return _object(properties, list(properties))

    def v2_request(self) -> Schema:
        """An infer request."""
        inputs = _list({"anyOf": [_input_tensor(field) for field in self._signature.inputs]})
        if required := self._signature.required_names:
            inputs["minItems"] = len(required)
        names = [field.name for field in self._signature.outputs]
        names += [name for name in self._extra_outputs if name not in names]
        output = _object(
            {"name": {"enum": names}, "parameters": _PARAMETERS}, ["name"], others=True
        )
        return _object(
            {
                "id": _TEXT_OR_NULL,
                "parameters": _PARAMETERS,
                "inputs": inputs,
                "outputs": {"type": ["array", "null"], "items": output},
            },
            ["inputs"],
            others=True,
        )

    def v2_response(self) -> Schema:
        """An infer answer."""
        output = _object(
            {
                "name": {"type": "string"},
                "datatype": {"type": "string"},
                "shape": _list(_SIZE),
                "parameters": _PARAMETERS,
                "data": {"type": "array"},
            },
            ["name", "datatype", "shape"],
        )
        properties = {
            "model_name": {"type": "string"},
            "model_version": {"type": "string"},
            "id": {"type": "string"},
            "outputs": _list(output),
        }
        return _object(properties, ["model_name", "outputs"])

    def generate_request(self, fields: TextFields) -> Schema:
        """A generate request."""
        others = [field for field in self._signature.inputs if field is not fields.input]
        parameters = _object({field.name: self._value(field) for field in others}, [], others=True)
        parameters["type"] = ["object", "null"]
        properties = {
            "id": _TEXT_OR_NULL,
            "text_input": {"type": "string"},
            "parameters": parameters,
        }
        return _object(properties, ["text_input"])

    def generate_response(self) -> Schema:
        """A generate answer, or a piece of one."""
        names = ("model_name", "model_version", "id", "text_output")
        properties: dict[str, Schema] = {name: {"type": "string"} for name in names}
        return _object(properties, ["model_name", "text_output"])

    def _value(self, field: Field) -> Schema:
        """One item of an input or output in JSON."""
        schema = self._bare_value(field)
        return schema | {"description": text} if (text := field.marker.description) else schema

    def _bare_value(self, field: Field) -> Schema:
        marker = field.marker
        if isinstance(marker, Text):
            return {"type": "string"}
        if isinstance(marker, Bytes):
            return _BASE64
        if isinstance(marker, Json):
            return self._json_value(field)
        assert isinstance(marker, Tensor)
        schema = _element(marker.datatype)
        for size in reversed(marker.shape):
            schema = {"type": "array", "items": schema}
            if size != -1:
                schema |= {"minItems": size, "maxItems": size}
        return schema

    def _json_value(self, field: Field) -> Schema:
        if field.plain_type is not None:
            return {"type": "object" if field.plain_type is dict else "array"}
        if field.python_type is Any:
            return {}
        from pydantic import TypeAdapter  # noqa: PLC0415 - imported already by field.validate

        schema = TypeAdapter(field.python_type).json_schema(
            ref_template="#/components/schemas/{model}"
        )
        self.components |= schema.pop("$defs", {})
        return schema

    def _output(self, field: Field) -> Schema:
        schema = self._value(field)
        if datatype_of(field).startswith(("FP", "BF")):
            schema = self._with_nan(schema)
        return _list(schema) if self._signature.streaming else schema

    def _with_nan(self, schema: Schema) -> Schema:
        """Numbers, and what is written where one is none."""
        if "items" in schema:
            return schema | {"items": self._with_nan(schema["items"])}
        if self._nan is NanPolicy.NULL:
            return {"type": ["number", "null"]}
        if self._nan is NanPolicy.STRING:
            return {"anyOf": [schema, {"enum": ["NaN", "Infinity", "-Infinity"]}]}
        return schema


def v1_example(signature: Signature) -> Any:
    """A V1 request that can be sent."""
    return {"instances": [examples.instance(signature)]}


def v2_example(signature: Signature) -> Any:
    """An infer request that can be sent; of Bytes the data are plain text, for JSON's sake."""
    fields = [field for field in signature.inputs if field.required] or signature.inputs[:1]
    return {"inputs": [_example_tensor(field) for field in fields]}


def _example_tensor(field: Field) -> dict[str, Any]:
    value = examples.value(field)
    if isinstance(field.marker, Bytes):
        value = "text"
    elif isinstance(field.marker, Json):
        value = orjson.dumps(value).decode()
    shape = [1, *(1 if size == -1 else size for size in item_shape_of(field))]
    return {"name": field.name, "datatype": datatype_of(field), "shape": shape, "data": [value]}


def _element(datatype: str) -> Schema:
    """One element of a tensor."""
    if datatype == "BYTES":
        return {"type": "string"}
    if datatype == "BOOL":
        return {"type": "boolean"}
    dtype = DTYPES[datatype]
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return {"type": "integer", "minimum": int(limits.min), "maximum": int(limits.max)}
    if datatype == "FP64":
        return {"type": "number", "minimum": -_FP64_MAX, "maximum": _FP64_MAX}
    beyond = _BEYOND[datatype]
    return {"type": "number", "exclusiveMinimum": -beyond, "exclusiveMaximum": beyond}


_FP64_MAX: Final = float(np.finfo(np.float64).max)
_BEYOND: Final = {"FP16": 65520.0, "FP32": 2.0**128 - 2.0**103, "BF16": 2.0**128 - 2.0**119}
"""The least number that is rounded to infinity: half a step above the largest."""


def _input_tensor(field: Field) -> Schema:
    shape = item_shape_of(field)
    lists = ["array"] if shape else ["array", "string", "number", "boolean"]
    return _object(
        {
            "name": {"const": field.name},
            "datatype": {"const": datatype_of(field)},
            "shape": _list(_SIZE) | {"minItems": len(shape), "maxItems": len(shape) + 1},
            "parameters": _PARAMETERS,
            "data": {"type": lists, "description": "Flat in row-major order, or nested."},
        },
        ["name", "datatype", "shape"],
        others=True,
    ) | {"title": field.name}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _object(
    properties: dict[str, Schema], required: Sequence[str], *, others: bool = False
) -> Schema:
    schema: Schema = {"type": "object", "properties": properties, "required": list(required)}
    return schema if others else schema | {"additionalProperties": False}
