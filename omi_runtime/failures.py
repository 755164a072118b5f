"""What the author's code raised: how callers are told, and what the log gets of it."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from omi_runtime.errors import InferenceFailed, OMIError, Overloaded
from omi_runtime.memory import is_out_of_memory

logger = logging.getLogger(__name__)


class Failures:
    """Makes errors of one model's exceptions.

    Args:
        model: its name, which opens every message.
        detailed: whether callers are told what was raised: `OMI_ERROR_DETAIL`.
    """

    def __init__(self, model: str, *, detailed: bool) -> None:
        self._model = model
        self._detailed = detailed

    def told(self, error: BaseException) -> OMIError:
        """The error to answer with; what it is about, for `log_failures`, is its cause."""
        if isinstance(error, OMIError) and not isinstance(error, InferenceFailed):
            return error
        if is_out_of_memory(error):
            told: OMIError = Overloaded(f"{self._model}: out of memory; try again later")
        elif isinstance(error, InferenceFailed):
            told = self._failed(error.message)
        else:
            told = self._failed(f"{type(error).__name__}: {error}")
        told.__cause__ = error
        return told

    def _failed(self, message: str) -> InferenceFailed:
        if not self._detailed:
            return InferenceFailed(
                f"{self._model}: the model failed; the server's log has the details"
            )
        return InferenceFailed(f"{self._model}: {message}")


def log_failures(errors: Iterable[OMIError]) -> None:
    """Write down what an author's code raised, with its traceback, or answered wrongly."""
    for error in errors:
        if not isinstance(error, InferenceFailed | Overloaded):
            continue  # a refusal is the caller's matter
        cause, error.__cause__ = error.__cause__, None  # which holds on to all that was at work
        if isinstance(cause, InferenceFailed):
            logger.error("the model failed: %s", cause.message)
        elif isinstance(error, Overloaded) and cause is not None:
            logger.error("the model ran out of memory: %s", type(cause).__name__)
        elif cause is not None:
            logger.error("the model raised", exc_info=cause)
