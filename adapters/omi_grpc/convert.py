"""Messages of `ModzyModel` ↔ the core's types; pure functions."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import Final

from omi_grpc._pb import model_pb2 as pb
from omi_runtime.card import ModelCard
from omi_runtime.errors import ErrorCode, OMIError
from omi_runtime.items import ERROR_FILE

FAILED_ITEM: Final = "Failed to process model input. "
_NOT_INITIALIZED: Final = "Model has not been initialized for inference."


def run_response(
    outputs: Iterable[dict[str, bytes] | OMIError],
    status_code: int = 200,
    message: str = "Inference executed",
) -> pb.RunResponse:
    """The answer to a Run: 200 even when items failed, which say so themselves."""
    status = "OK" if status_code == 200 else HTTPStatus(status_code).phrase
    response = pb.RunResponse(status_code=status_code, status=status, message=message)
    for output in outputs:
        _write_output(response.outputs.add(), output)
    return response


def status_response(status_code: int, message: str, card: ModelCard | None) -> pb.StatusResponse:
    """The answer to a Status; the card is absent only if the model's module cannot be imported."""
    response = pb.StatusResponse(
        status_code=status_code, status=HTTPStatus(status_code).phrase, message=message
    )
    if card is not None:
        response.MergeFrom(_card_message(card))
    return response


def _write_output(item: pb.OutputItem, output: dict[str, bytes] | OMIError) -> None:
    # Member by member into a message that is there: making one of a mapping, to be copied into
    # the response, takes three times as long.
    files = item.output
    if isinstance(output, OMIError):
        files[ERROR_FILE] = _error_text(output).encode()
        return
    for name, data in output.items():
        files[name] = data
    item.success = True


def _error_text(error: OMIError) -> str:
    if error.code is ErrorCode.MODEL_NOT_READY:
        return FAILED_ITEM + _NOT_INITIALIZED
    return f"{FAILED_ITEM}Exception Encountered: {error.message}"


def _source(card: ModelCard) -> str:
    """Where the model is from, as its author says; and which it is, if its files were locked."""
    return "; ".join(filter(None, [card.source, card.identity if card.digest else ""]))


def _card_message(card: ModelCard) -> pb.StatusResponse:
    features = card.features
    return pb.StatusResponse(
        model_info=pb.ModelInfo(
            model_name=card.name,
            model_version=card.version,
            model_author=card.author,
            model_type=card.kind,
            source=_source(card),
        ),
        description=pb.ModelDescription(
            summary=card.summary,
            details=card.details,
            technical=card.technical,
            performance=card.performance,
        ),
        inputs=[
            pb.ModelInput(
                filename=file.filename,
                accepted_media_types=file.media_types,
                max_size=file.max_size,
                description=file.description,
            )
            for file in card.inputs
        ],
        outputs=[
            pb.ModelOutput(
                filename=file.filename,
                media_type=file.media_types[0],
                max_size=file.max_size,
                description=file.description,
            )
            for file in card.outputs
        ],
        resources=pb.ModelResources(
            required_ram=card.resources.ram,
            num_cpus=card.resources.cpus,
            num_gpus=card.resources.gpus,
        ),
        timeout=pb.ModelTimeout(status=card.timeout_status, run=card.timeout_run),
        features=pb.ModelFeatures(
            adversarial_defense=features.adversarial_defense,
            batch_size=features.max_batch_size,
            retrainable=features.retrainable,
            results_format=features.results_format,
            drift_format=features.drift_format,
            explanation_format=features.explanation_format,
        ),
    )
