"""Example inputs made from a signature: for the ready-to-paste request of each interface.

They have the right form and, for want of a better one, plain content: zeros, "text", one byte.
"""

from __future__ import annotations

import base64
import shlex
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import orjson

from omi_runtime.settings import EVERY_ADDRESS, Settings
from omi_runtime.signature import Bytes, Field, Json, Signature, Tensor, Text

_SCALARS: Final = {"string": "text", "integer": 0, "number": 0.0, "boolean": False, "null": None}
_PIXEL: Final = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
"""A PNG of one pixel: what Bytes most often are is a picture."""


def address(settings: Settings, port: int) -> str:
    """Where this machine reaches a port: localhost, unless `OMI_HOST` is a particular address."""
    host = "localhost" if settings.host in EVERY_ADDRESS else settings.host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def curl(settings: Settings, port: int, path: str) -> str:
    """How curl is told where to post."""
    where = address(settings, port) + path
    if not settings.tls_cert:
        return f"curl -s {shlex.quote(where)}"
    own = " --cert client.pem --key client.key" if settings.tls_client_ca else ""
    return f"curl -sk{own} {shlex.quote(f'https://{where}')}"


def grpcurl(settings: Settings) -> str:
    """How grpcurl is told what to speak."""
    if not settings.tls_cert:
        return "grpcurl -plaintext"
    return "grpcurl -insecure" + (
        " -cert client.pem -key client.key" if settings.tls_client_ca else ""
    )


def value(field: Field) -> Any:
    """An example item of a field, as parsed JSON; Bytes as `{"b64": …}`."""
    marker = field.marker
    if isinstance(marker, Tensor):
        element: Any = "text" if marker.datatype == "BYTES" else 0
        if marker.datatype == "BOOL":
            element = False
        elif marker.datatype.startswith(("FP", "BF")):
            element = 0.0
        for size in reversed(marker.shape):
            element = [element] * (1 if size == -1 else size)
        return element
    if isinstance(marker, Text):
        return "text"
    if isinstance(marker, Bytes):
        return {"b64": base64.b64encode(_PIXEL).decode()}
    return _json_value(field)


def files(signature: Signature) -> dict[str, bytes]:
    """An example item as named files, the form of the OMI and Modzy wires."""
    result: dict[str, bytes] = {}
    for field in _required(signature):
        if isinstance(field.marker, Bytes):
            result[field.name] = _PIXEL
        elif isinstance(field.marker, Text):
            result[field.name] = b"text"
        else:
            result[field.name] = orjson.dumps(value(field))
    return result


def instance(signature: Signature) -> Any:
    """An example item as a JSON value: bare if there is one input, else an object."""
    fields = _required(signature)
    if len(signature.inputs) == 1:
        return value(fields[0])
    return {field.name: value(field) for field in fields}


def _required(signature: Signature) -> list[Field]:
    return [field for field in signature.inputs if field.required] or list(signature.inputs[:1])


def _json_value(field: Field) -> Any:
    assert isinstance(field.marker, Json)
    if field.plain_type is list:
        return []
    if field.validate is None or field.plain_type is dict:
        return {}
    from pydantic import TypeAdapter  # noqa: PLC0415 - imported already by field.validate

    schema = TypeAdapter(field.python_type).json_schema()
    return _from_schema(schema, schema.get("$defs", {}))


def _from_schema(
    schema: dict[str, Any], definitions: dict[str, Any], within: tuple[str, ...] = ()
) -> Any:
    """The smallest value that a JSON Schema asks for.

    Raises:
        RecursionError: a definition that it is `within` would hold itself.
    """

    def part(member: dict[str, Any]) -> Any:
        return _from_schema(member, definitions, within)

    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        if name in within:
            raise RecursionError(name)
        return _from_schema(definitions[name], definitions, (*within, name))
    for key in ("default", "const"):
        if key in schema:
            return schema[key]
    for key in ("examples", "enum"):
        if schema.get(key):
            return schema[key][0]
    options = [option for key in ("anyOf", "oneOf", "allOf") for option in schema.get(key, ())]
    for option in options:
        with suppress(RecursionError):
            return part(option)
    return _from_type(schema, part)


def _from_type(schema: dict[str, Any], part: Callable[[dict[str, Any]], Any]) -> Any:
    if schema.get("type") == "object":
        properties = schema.get("properties", {})
        return {name: part(properties[name]) for name in schema.get("required", [])}
    if schema.get("type") == "array":
        members = schema.get("prefixItems", [])
        rest = schema.get("minItems", 0) - len(members)
        more = [part(schema.get("items", {})) for _ in range(rest)]
        return [*map(part, members), *more]
    return _SCALARS.get(str(schema.get("type")), {})
