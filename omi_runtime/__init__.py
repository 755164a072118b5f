"""One model, any serving platform: the runtime of Open Model Interface containers."""

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
from omi_runtime.signature import Bytes, Json, Signature, Tensor, Text

__version__ = "0.1.0"

__all__ = [
    "Bytes",
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
]
