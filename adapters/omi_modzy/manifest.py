"""`omi manifest modzy`: the metadata file of Modzy's container specification, from a model's card.

Specification 0.3 describes models of type `file`, 0.4 those of type `grpc`; field names are those
of Modzy's Python and gRPC model templates. Read back beside the same class, it gives the same card.
"""

from __future__ import annotations

from typing import Any, Final

import yaml

from omi_runtime.adapter import ManifestRequest
from omi_runtime.card import CardFile, ModelCard

_SPECIFICATIONS: Final = {"file": "0.3", "grpc": "0.4"}


def render(request: ManifestRequest) -> str:
    """A `model.yaml`, with a comment that names what an upload wants and the card does not say."""
    card = request.card
    text: str = yaml.dump(
        metadata(card), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100
    )
    missing = [what for what, value in _wanted(card).items() if not value]
    return f"# To be added before an upload: {', '.join(missing)}.\n{text}" if missing else text


def metadata(card: ModelCard) -> dict[str, Any]:
    """The file's content; what the card leaves open is left out."""
    features = card.features
    content = {
        "specification": _SPECIFICATIONS[card.kind],
        "type": card.kind,
        "source": card.source,
        "version": card.version,
        "name": card.title,
        "author": card.author,
        "description": _said(
            summary=card.summary,
            details=card.details,
            technical=card.technical,
            performance=card.performance,
        ),
        "tags": list(card.tags),
        "inputs": {
            file.filename: _said(acceptedMediaTypes=list(file.media_types), **_file(file))
            for file in card.inputs
        },
        "outputs": {
            file.filename: _said(mediaType=file.media_types[0], **_file(file))
            for file in card.outputs
        },
        "resources": _said(
            memory=_said(size=card.resources.ram),
            cpu=_said(count=card.resources.cpus),
            gpu=_said(count=card.resources.gpus),
        ),
        "timeout": _said(status=card.timeout_status, run=card.timeout_run),
        "features": {
            "adversarialDefense": features.adversarial_defense,
            "maxBatchSize": features.max_batch_size,
            "retrainable": features.retrainable,
            **_said(
                resultsFormat=features.results_format,
                driftFormat=features.drift_format,
                explanationFormat=features.explanation_format,
            ),
        },
    }
    if card.kind == "file":
        flags = _said(
            explainable=features.explainable, adversarialDefense=features.adversarial_defense
        )
        content["internal"] = _said(features=flags)
    return _said(**content)


def _wanted(card: ModelCard) -> dict[str, Any]:
    return {
        "version": card.version not in ("", "0.0.0"),
        "author": card.author,
        "description.summary": card.summary,
        "resources.memory.size": card.resources.ram,
        "resources.cpu.count": card.resources.cpus,
        "timeout.status": card.timeout_status,
        "timeout.run": card.timeout_run,
    }


def _file(file: CardFile) -> dict[str, str]:
    return {"maxSize": file.max_size, "description": file.description}


def _said(**content: Any) -> dict[str, Any]:
    """Without what is empty or zero, which is how a card says that nothing is known."""
    return {key: value for key, value in content.items() if value}


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as such."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)
