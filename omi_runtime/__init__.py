"""One model, any serving platform: the runtime of Open Model Interface containers."""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from omi_runtime.errors import (
        DeadlineExceeded,
        InferenceFailed,
        InvalidInput,
        InvalidRequest,
        LoadError,
        ModelNotReady,
        NotOffered,
        OMIError,
        Overloaded,
        TooLarge,
    )
    from omi_runtime.model import Model
    from omi_runtime.request import CurrentRequest, current_request
    from omi_runtime.signature import Bytes, Json, Signature, Tensor, Text

__version__ = "0.1.0"

__all__ = [
    "Bytes",
    "CurrentRequest",
    "DeadlineExceeded",
    "InferenceFailed",
    "InvalidInput",
    "InvalidRequest",
    "Json",
    "LoadError",
    "Model",
    "ModelNotReady",
    "NotOffered",
    "OMIError",
    "Overloaded",
    "Signature",
    "Tensor",
    "Text",
    "TooLarge",
    "__version__",
    "current_request",
]

_HOMES: Final = {
    "Bytes": "omi_runtime.signature",
    "CurrentRequest": "omi_runtime.request",
    "DeadlineExceeded": "omi_runtime.errors",
    "InferenceFailed": "omi_runtime.errors",
    "InvalidInput": "omi_runtime.errors",
    "InvalidRequest": "omi_runtime.errors",
    "Json": "omi_runtime.signature",
    "LoadError": "omi_runtime.errors",
    "Model": "omi_runtime.model",
    "ModelNotReady": "omi_runtime.errors",
    "NotOffered": "omi_runtime.errors",
    "OMIError": "omi_runtime.errors",
    "Overloaded": "omi_runtime.errors",
    "Signature": "omi_runtime.signature",
    "Tensor": "omi_runtime.signature",
    "Text": "omi_runtime.signature",
    "TooLarge": "omi_runtime.errors",
    "current_request": "omi_runtime.request",
}


def __getattr__(name: str) -> Any:
    """A public name, imported when it is first used.

    numpy reads how many threads it may start when it is imported, and `omi` has to tell it before:
    so importing this package imports nothing yet.
    """
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value
