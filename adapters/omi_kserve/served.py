"""What REST and gRPC say alike of the server and its one model."""

from __future__ import annotations

from typing import Final

from omi_kserve.convert_generate import TextFields
from omi_runtime.card import ModelCard
from omi_runtime.errors import ModelNotFound
from omi_runtime.handler import ModelHandler
from omi_runtime.lifecycle import State

SERVER_NAME: Final = "omi-runtime"


def card_of(handler: ModelHandler) -> ModelCard:
    """The model's card, which it keeps when it is unloaded."""
    assert handler.card is not None, "the port opens after the load"
    return handler.card


def served(handler: ModelHandler) -> list[str]:
    """The names of the models that are here: none if it is unloaded."""
    return [] if handler.lifecycle.state is State.UNLOADED else [handler.name]


def check_model(handler: ModelHandler, model: str, version: str | None = None) -> None:
    """Refuse another model's name or version.

    Raises:
        ModelNotFound: says what is here.
    """
    if model != handler.name or version not in (None, card_of(handler).version):
        raise not_served(handler, model, version)


def not_served(handler: ModelHandler, model: str, version: str | None = None) -> ModelNotFound:
    """The answer to a name or version of another model; the dispatcher has answered for ours."""
    if model != handler.name:
        return ModelNotFound(f"no model {model!r} here, only {handler.name!r}")
    ours = card_of(handler).version
    return ModelNotFound(f"no version {version!r} of {model!r} here, only {ours!r}")


def extensions(handler: ModelHandler) -> list[str]:
    """The extensions that this server has, with this model and these settings."""
    names = ["binary_tensor_data"]
    if handler.ready and TextFields.of(handler.signature) is not None:
        names.append("generate")
    if handler.settings.admin and handler.alone:
        names.append("model_repository")
    return names
