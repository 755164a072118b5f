"""`model.yaml`: Modzy's metadata file, specifications 0.3 and 0.4, read and validated.

Field names are those of Modzy's container specification and its Python and gRPC model templates.
An error names the file, the line and the field.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal, get_args, get_origin

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel

from omi_runtime.errors import LoadError
from omi_runtime.quantities import parse_size, parse_span

logger = logging.getLogger(__name__)

FILE_NAME: Final = "model.yaml"


class _Section(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel, coerce_numbers_to_str=True, frozen=True, populate_by_name=True
    )

    ignored: ClassVar[frozenset[str]] = frozenset()
    """Keys that the specification has and this runtime has no use for."""

    @model_validator(mode="before")
    @classmethod
    def _without_empty_keys(cls, content: Any) -> Any:
        # A key, or a dash, without a value is how a YAML author leaves something out; and how
        # Modzy's template comes.
        if isinstance(content, dict):
            return {key: _filled(value) for key, value in content.items() if value is not None}
        return content


def _filled(value: Any) -> Any:
    if isinstance(value, list):
        return [member for member in value if member is not None]
    return value


def _is_size(text: str) -> str:
    parse_size(text)
    return text


Size = Annotated[str, AfterValidator(_is_size)]
"""Such as `512K` or `5M`, or empty."""


class Description(_Section):
    """What the model does, in four lengths and moods."""

    summary: str = ""
    details: str = ""
    technical: str = ""
    performance: str = ""


class _Sized(_Section):
    max_size: Size = ""


class InputFile(_Sized):
    """One input; its key is the file's name."""

    accepted_media_types: tuple[str, ...] = ()
    description: str = ""

    @property
    def media_types(self) -> tuple[str, ...]:
        """What the file may be; empty if it is not said."""
        return self.accepted_media_types


class OutputFile(_Sized):
    """One output; its key is the file's name."""

    media_type: str = ""
    description: str = ""

    @property
    def media_types(self) -> tuple[str, ...]:
        """What the file is; empty if it is not said."""
        return (self.media_type,) if self.media_type else ()


class Memory(_Section):
    """Main memory."""

    size: Size = ""


class Cpu(_Section):
    """Processors; fractions are allowed."""

    count: float = Field(default=0.0, ge=0, allow_inf_nan=False)


class Gpu(_Section):
    """Graphics processors."""

    count: int = Field(default=0, ge=0)


class Resources(_Section):
    """What the model needs to run."""

    memory: Memory = Memory()
    cpu: Cpu = Cpu()
    gpu: Gpu = Gpu()


class Timeout(_Section):
    """How long loading (`status`) and one run may take, as spans such as `20s` or `1m30s`."""

    status: str = ""
    run: str = ""

    @field_validator("status", "run")
    @classmethod
    def _is_span(cls, text: str) -> str:
        parse_span(text)
        return text


class Features(_Section):
    """What specification 0.4 says of a model's abilities."""

    adversarial_defense: bool = False
    max_batch_size: int | None = Field(default=None, ge=1)
    retrainable: bool = False
    results_format: str = ""
    drift_format: str = ""
    explanation_format: str = ""


class InternalFeatures(_Section):
    """What specification 0.3 says of a model's abilities."""

    explainable: bool = False
    adversarial_defense: bool = False


class Internal(_Section):
    """The section of 0.3 that has no name for what it is about."""

    ignored = frozenset({"recommended", "experimental", "available"})

    features: InternalFeatures = InternalFeatures()


class Manifest(_Section):
    """The whole file."""

    ignored = frozenset({"releaseNotes", "filters", "metrics"})

    specification: Literal["0.3", "0.4"]
    type: Literal["file", "grpc"] | None = None
    source: str = ""
    version: str = ""
    name: str = ""
    author: str = ""
    description: Description = Description()
    tags: tuple[str, ...] = ()
    inputs: dict[str, InputFile] = {}
    outputs: dict[str, OutputFile] = {}
    resources: Resources = Resources()
    timeout: Timeout = Timeout()
    features: Features = Features()
    internal: Internal = Internal()

    _root: yaml.Node | None = PrivateAttr(default=None)

    @property
    def kind(self) -> str | None:
        """Modzy's model type; None if the file leaves it open: 0.3 has models of files alone."""
        return self.type or ("file" if self.specification == "0.3" else None)

    def line(self, *keys: str) -> int:
        """The line of the file that has the key under these keys, or that of the nearest."""
        return _line(self._root, keys) if self._root is not None else 1

    @field_validator("specification", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, float) else value  # 0.4 without quotes


def read_manifest(directory: Path) -> Manifest | None:
    """The `model.yaml` of a model's directory, or None if it has none.

    Raises:
        LoadError: names the line and the field.
    """
    path = directory / FILE_NAME
    if not path.is_file():
        return None
    try:
        text = path.read_text(encoding="utf-8")
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
        content = loader.construct_document(root) if root else None
    except (yaml.YAMLError, OSError, ValueError) as error:  # ValueError: no UTF-8, or no such date
        raise LoadError(f"{path} cannot be read: {' '.join(str(error).split())}") from None
    if root is None or not isinstance(content, dict):
        raise LoadError(f"{path} holds no mapping")
    try:
        manifest = Manifest.model_validate(content)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        place = ".".join(map(str, problem["loc"]))
        line = _line(root, problem["loc"])
        raise LoadError(f"{path}, line {line}: {place}: {problem['msg']}") from None
    manifest._root = root  # noqa: SLF001 - its own module
    _warn_of_unknown_keys(path, root, Manifest)
    return manifest


def _line(node: yaml.Node, location: Sequence[int | str]) -> int:
    """The line, from 1, of the key or member at a location, or of its nearest parent."""
    line = node.start_mark.line
    for step in location:
        if isinstance(node, yaml.MappingNode):
            key, found = next((pair for pair in node.value if pair[0].value == step), (None, None))
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int):
            key = found = node.value[step]
        else:
            break
        if key is None or found is None:
            break
        line, node = key.start_mark.line, found
    return int(line) + 1


def _warn_of_unknown_keys(
    path: Path, node: yaml.Node, section: type[_Section], place: str = ""
) -> None:
    if not isinstance(node, yaml.MappingNode):  # of a section that is left empty
        return
    known = {field.alias or name: field.annotation for name, field in section.model_fields.items()}
    for key, value in node.value:
        name = key.value
        if name in known:
            for inner, inner_place, kind in _sections(value, f"{place}{name}.", known[name]):
                _warn_of_unknown_keys(path, inner, kind, inner_place)
        elif name not in section.ignored:
            nearest = difflib.get_close_matches(name, known, n=1)
            hint = f": did you mean {nearest[0]}?" if nearest else ""
            line = key.start_mark.line + 1
            logger.warning("%s, line %d: %s%s is ignored%s", path, line, place, name, hint)


def _sections(
    node: yaml.Node, place: str, annotation: Any
) -> Iterator[tuple[yaml.Node, str, type[_Section]]]:
    """The sections that a field is, or has by the names of files, each with its place."""
    if isinstance(annotation, type) and issubclass(annotation, _Section):
        yield node, place, annotation
    elif get_origin(annotation) is dict and isinstance(node, yaml.MappingNode):
        kind = get_args(annotation)[1]
        for key, value in node.value:
            yield value, f"{place}{key.value}.", kind
