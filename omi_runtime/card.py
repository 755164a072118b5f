"""The model's card: all that can be said of a model, from its class and its `model.yaml`."""

from __future__ import annotations

import inspect
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from omi_runtime import codecs
from omi_runtime.errors import LoadError
from omi_runtime.model import Model
from omi_runtime.signature import Bytes, Field, Signature

if TYPE_CHECKING:  # pydantic and yaml are imported only for a model that has a model.yaml
    from omi_runtime.metadata import InputFile, Manifest, OutputFile

RESULTS_FILE: Final = "results.json"
"""The file that holds all outputs that are not Bytes, on the wires that carry files."""


@dataclass(frozen=True)
class CardFile:
    """One input or output, as the wires that carry files name it.

    Attributes:
        filename: the key, such as `measurements.json`.
        media_types: the accepted ones of an input; of an output, exactly one.
        max_size: such as "5M", or empty.
    """

    filename: str
    media_types: tuple[str, ...]
    max_size: str = ""
    description: str = ""


@dataclass(frozen=True)
class Resources:
    """What the model says it needs; empty and 0 where it does not say."""

    ram: str = ""
    cpus: float = 0.0
    gpus: int = 0


@dataclass(frozen=True)
class Features:
    """What the model can do."""

    max_batch_size: int = 1
    explainable: bool = False
    drift: bool = False
    adversarial_defense: bool = False
    retrainable: bool = False
    results_format: str = ""
    drift_format: str = ""
    explanation_format: str = ""


@dataclass(frozen=True)
class ModelCard:
    """Who made the model, what it does, what it takes, gives and needs.

    Attributes:
        name: served on every wire.
        title: for people.
        kind: `file` or `grpc`, Modzy's model type.
        timeout_status, timeout_run: spans such as "20s", or empty.
    """

    name: str
    title: str
    version: str
    author: str = ""
    kind: str = "grpc"
    source: str = ""
    summary: str = ""
    details: str = ""
    technical: str = ""
    performance: str = ""
    tags: tuple[str, ...] = ()
    inputs: tuple[CardFile, ...] = ()
    outputs: tuple[CardFile, ...] = ()
    resources: Resources = Resources()
    timeout_status: str = ""
    timeout_run: str = ""
    features: Features = Features()

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def make_card(
    model_class: type[Model],
    signature: Signature | None,
    manifest: Manifest | None,
    *,
    served_name: str = "",
) -> ModelCard:
    """Combine what the class and the file say.

    Args:
        model_class: the author's.
        manifest: the model.yaml beside it, or None.
        signature: None before the load, for a model that sets it in `load()`.
        served_name: `MODEL_NAME`, or empty.

    Raises:
        LoadError: they disagree; names the field.
    """
    summary, _, details = (inspect.getdoc(model_class) or "").partition("\n")
    if model_class.__doc__ is None:
        summary = details = ""  # getdoc would give that of Model itself
    card = ModelCard(
        name=served_name or model_class.name,
        title=model_class.name,
        version=model_class.version or "0.0.0",
        summary=summary,
        details=details.strip(),
        inputs=tuple(_card_file(field) for field in signature.inputs) if signature else (),
        outputs=_outputs(signature) if signature else (),
        features=Features(
            max_batch_size=model_class.max_batch_size,
            explainable=hasattr(model_class, "explain"),
            drift=hasattr(model_class, "drift"),
        ),
    )
    if manifest is None:
        return card
    _check_agreement(model_class, signature, manifest)
    return _with_manifest(card, manifest)


def file_matches(filename: str, field: Field) -> bool:
    """Whether a file's name means a field: its exact name, or that and a known extension."""
    if filename == field.name:
        return True
    return filename.startswith(field.name + ".") and (
        filename[len(field.name) :] in codecs.media_types(field)
    )


def _with_manifest(card: ModelCard, manifest: Manifest) -> ModelCard:
    description, features = manifest.description, manifest.features
    resources = manifest.resources
    return replace(
        card,
        title=manifest.name or card.title,
        version=manifest.version or card.version,
        author=manifest.author,
        kind=manifest.type,
        source=manifest.source,
        summary=description.summary or card.summary,
        details=description.details or card.details,
        technical=description.technical,
        performance=description.performance,
        tags=manifest.tags,
        inputs=tuple(
            CardFile(name, file.accepted_media_types, file.max_size, file.description)
            for name, file in manifest.inputs.items()
        )
        or card.inputs,
        outputs=tuple(
            CardFile(name, (file.media_type,), file.max_size, file.description)
            for name, file in manifest.outputs.items()
        )
        or card.outputs,
        resources=Resources(resources.memory.size, resources.cpu.count, resources.gpu.count),
        timeout_status=manifest.timeout.status,
        timeout_run=manifest.timeout.run,
        features=replace(card.features, **features.model_dump(exclude={"max_batch_size"})),
    )


def _card_file(field: Field) -> CardFile:
    marker = field.marker
    return CardFile(field.name, marker.media_types, marker.max_size or "", marker.description)


def _outputs(signature: Signature) -> tuple[CardFile, ...]:
    files = [_card_file(field) for field in signature.outputs if isinstance(field.marker, Bytes)]
    files = [replace(file, media_types=file.media_types[:1]) for file in files]
    if len(files) < len(signature.outputs):
        files.insert(0, CardFile(RESULTS_FILE, (codecs.JSON,)))
    return tuple(files)


def _check_agreement(
    model_class: type[Model], signature: Signature | None, manifest: Manifest
) -> None:
    label = model_class.__name__
    version, size = model_class.version, manifest.features.max_batch_size
    if version and manifest.version and version != manifest.version:
        raise _disagreement(
            ("version",), "version", f"{label} says {version}", manifest.version, manifest
        )
    if size and size != model_class.max_batch_size:
        raise _disagreement(
            ("features", "maxBatchSize"),
            "features.maxBatchSize and max_batch_size",
            f"{label} says {model_class.max_batch_size}",
            size,
            manifest,
        )
    if signature is None:
        return
    if manifest.inputs:
        _check_files("inputs", manifest.inputs, signature.inputs, label, manifest)
    if manifest.outputs:
        # results.json stands for every output that is not Bytes, and may be named or not.
        outputs = {name: file for name, file in manifest.outputs.items() if name != RESULTS_FILE}
        files = tuple(f for f in signature.outputs if isinstance(f.marker, Bytes))
        _check_files("outputs", outputs, files, label, manifest)


def _check_files(
    section: str,
    files: dict[str, InputFile] | dict[str, OutputFile],
    fields: tuple[Field, ...],
    label: str,
) -> None:
    for filename, file in files.items():
        field = next((field for field in fields if file_matches(filename, field)), None)
        if field is None:
            names = ", ".join(field.name for field in fields) or "none as a file"
            raise LoadError(
                f"{section}.{filename} of model.yaml matches nothing that {label} declares: "
                f"it has {names}; a file is called like the field, with or without an extension"
            )
        _check_file(f"{section}.{filename}", file, field, label)
    for field in fields:
        if field.required and not any(file_matches(name, field) for name in files):
            raise LoadError(f"{section} of model.yaml lacks {field.name}, which {label} declares")


def _check_file(place: str, file: InputFile | OutputFile, field: Field, label: str) -> None:
    marker = field.marker
    if file.max_size and marker.max_size and file.max_size != marker.max_size:
        raise LoadError(
            f"{place}.maxSize: {label} says {marker.max_size}, model.yaml says {file.max_size}"
        )
    # The class says media types only of Bytes, and then only where the author gave some.
    if not isinstance(marker, Bytes) or marker.media_types == Bytes().media_types:
        return
    in_class, in_file = set(marker.media_types), set(file.media_types)
    if place.startswith("outputs."):
        in_class = set(marker.media_types[:1])
    if in_file and in_class != in_file:
        raise LoadError(
            f"{place}: {label} says {', '.join(sorted(in_class))}, model.yaml says "
            f"{', '.join(sorted(in_file))}"
        )
