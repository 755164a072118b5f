"""The model's card: all that can be said of a model, from its class and its `model.yaml`."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from omi_runtime import codecs, provenance
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
        kind: `file` or `grpc`, Modzy's model type. Of a class that takes and writes files itself,
            `file`, unless its model.yaml says otherwise.
        timeout_status, timeout_run: spans such as "20s", or empty.
        digest: of its files, `sha256:…`, if they were locked; else empty.
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
    digest: str = ""

    @property
    def identity(self) -> str:
        """Which model this is, `name:version@sha256:…`: every answer carries it."""
        return provenance.identity(self.name, self.version, self.digest)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def make_card(
    model_class: type[Model],
    signature: Signature | None,
    manifest: Manifest | None,
    *,
    served_name: str = "",
    digest: str = "",
) -> ModelCard:
    """Combine what the class and the file say.

    Args:
        model_class: the author's.
        manifest: the model.yaml beside it, or None.
        signature: None before the load, for a model that sets it in `load()`.
        served_name: `MODEL_NAME`, or empty.
        digest: of the model's files, or empty.

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
        kind="file" if signature is not None and signature.outputs_are_files else "grpc",
        summary=summary,
        details=details.strip(),
        inputs=tuple(_card_file(field) for field in signature.inputs) if signature else (),
        outputs=_outputs(signature) if signature else (),
        features=Features(
            max_batch_size=model_class.max_batch_size,
            explainable=hasattr(model_class, "explain"),
            drift=hasattr(model_class, "drift"),
        ),
        digest=digest,
    )
    if manifest is None:
        return card
    _Agreement(model_class, manifest).check(signature)
    return _with_manifest(card, manifest)


def file_matches(filename: str, field: Field) -> bool:
    """Whether a file's name means a field: its exact name, or that and a known extension."""
    if filename == field.name:
        return True
    return filename.startswith(field.name + ".") and (
        filename[len(field.name) :] in codecs.media_types(field)
    )


def _with_manifest(card: ModelCard, manifest: Manifest) -> ModelCard:
    description, resources = manifest.description, manifest.resources
    return replace(
        card,
        title=manifest.name or card.title,
        version=manifest.version or card.version,
        author=manifest.author,
        kind=manifest.kind or card.kind,
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
        features=_features(card.features, manifest),
    )


def _features(of_class: Features, manifest: Manifest) -> Features:
    """What 0.4 says under `features`, and 0.3, of type file, under `internal.features`."""
    said, internal = manifest.features, manifest.internal.features
    explainable = manifest.kind == "file" and internal.explainable
    return replace(
        of_class,
        **said.model_dump(exclude={"max_batch_size", "adversarial_defense"}),
        adversarial_defense=said.adversarial_defense or internal.adversarial_defense,
        explainable=of_class.explainable or explainable,
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


class _Agreement:
    """Compares what a model's class and its model.yaml both say."""

    def __init__(self, model_class: type[Model], manifest: Manifest) -> None:
        self._class = model_class
        self._manifest = manifest
        self._label = model_class.__name__

    def check(self, signature: Signature | None) -> None:
        """Refuse a disagreement; the signature is None if it is not known yet.

        Raises:
            LoadError: names the field and the line.
        """
        model_class, manifest = self._class, self._manifest
        self._equal("version", model_class.version, manifest.version, "version")
        self._equal(
            "features.maxBatchSize and max_batch_size",
            model_class.max_batch_size,
            manifest.features.max_batch_size,
            "features",
            "maxBatchSize",
        )
        if signature is not None and manifest.inputs:
            self._check_files("inputs", manifest.inputs, signature.inputs)
        if signature is not None and manifest.outputs:
            # results.json stands for every output that is not Bytes, and may be named or not.
            own = signature.outputs_are_files
            files = {n: f for n, f in manifest.outputs.items() if own or n != RESULTS_FILE}
            fields = tuple(f for f in signature.outputs if isinstance(f.marker, Bytes))
            self._check_files("outputs", files, fields)

    def _check_files(
        self,
        section: str,
        files: Mapping[str, InputFile | OutputFile],
        fields: tuple[Field, ...],
    ) -> None:
        for filename, file in files.items():
            field = next((field for field in fields if file_matches(filename, field)), None)
            if field is None:
                names = ", ".join(field.name for field in fields) or "none as a file"
                raise self._error(
                    f"{section}.{filename} of model.yaml matches nothing that {self._label} "
                    f"declares: it has {names}; a file is called like the field, with or without "
                    "an extension",
                    section,
                    filename,
                )
            self._check_file(section, filename, file, field)
        for field in fields:
            if field.required and not any(file_matches(name, field) for name in files):
                raise self._error(
                    f"{section} of model.yaml lacks {field.name}, which {self._label} declares",
                    section,
                )

    def _check_file(
        self, section: str, filename: str, file: InputFile | OutputFile, field: Field
    ) -> None:
        marker, place = field.marker, f"{section}.{filename}"
        self._equal(
            f"{place}.maxSize", marker.max_size, file.max_size, section, filename, "maxSize"
        )
        # The class says media types only of Bytes, and then only where the author gave some.
        if isinstance(marker, Bytes) and marker.media_types != Bytes().media_types:
            in_class = marker.media_types if section == "inputs" else marker.media_types[:1]
            self._equal(
                place,
                ", ".join(sorted(in_class)),
                ", ".join(sorted(file.media_types)),
                section,
                filename,
                "acceptedMediaTypes" if section == "inputs" else "mediaType",
            )

    def _equal(self, what: str, in_class: object, in_file: object, *keys: str) -> None:
        if in_class and in_file and in_class != in_file:
            raise self._error(
                f"{what}: {self._label} says {in_class}, model.yaml says {in_file}", *keys
            )

    def _error(self, message: str, *keys: str) -> LoadError:
        return LoadError(f"{message} (line {self._manifest.line(*keys)})")
