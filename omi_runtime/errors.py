"""What can go wrong, in words that belong to no wire.

    OMIError                  something a caller is told about; carries an ErrorCode
    ├── InvalidRequest        the request as a whole is malformed
    ├── UnsupportedMediaType  the value comes in a form that is not read here
    ├── InvalidInput          a declared input holds something wrong; authors raise it too
    ├── ModelNotFound         no model of that name or version is served here
    ├── ModelNotReady         the model failed to load, or the process is stopping
    ├── NotOffered            explain, drift, … that this model or server does not have
    ├── TooLarge              over a size limit
    ├── Overloaded            the queue is full, or memory ran out: try again later
    ├── DeadlineExceeded      not answered in the time allowed
    ├── InferenceFailed       the author's code raised, or answered with the wrong thing
    └── InternalError         a bug of ours
    StartupError              the process cannot start; carries its exit code
    ├── SettingsError         exit code 2: an environment variable or argument is wrong
    └── LoadError             exit code 3: the model did not load, or a port is taken

Each adapter owns one total table from ErrorCode to its wire; the core never names a status.
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar


class ErrorCode(StrEnum):
    """The codes that every adapter's error table must cover."""

    INVALID_REQUEST = "INVALID_REQUEST"
    UNSUPPORTED_MEDIA_TYPE = "UNSUPPORTED_MEDIA_TYPE"
    INVALID_INPUT = "INVALID_INPUT"
    MODEL_NOT_FOUND = "MODEL_NOT_FOUND"
    MODEL_NOT_READY = "MODEL_NOT_READY"
    NOT_OFFERED = "NOT_OFFERED"
    TOO_LARGE = "TOO_LARGE"
    OVERLOADED = "OVERLOADED"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    INFERENCE_FAILED = "INFERENCE_FAILED"
    INTERNAL = "INTERNAL"


class OMIError(Exception):
    """An error that a caller is told about, in the shape of the caller's interface.

    Args:
        message: what happened and what to do, for a person.
    """

    code: ClassVar[ErrorCode] = ErrorCode.INTERNAL

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def with_rows(self, rows: list[int]) -> OMIError:
        """The same error, its message opening with the rows of the request it concerns."""
        where = f"row {rows[0]}" if len(rows) == 1 else f"rows {', '.join(map(str, rows))}"
        text = f"{where}: {self.message}"
        # Not by calling the class: an author's own subclass may take other arguments.
        error = type(self).__new__(type(self), text)
        OMIError.__init__(error, text)
        return error


class InvalidRequest(OMIError):
    """The request as a whole is malformed."""

    code = ErrorCode.INVALID_REQUEST


class UnsupportedMediaType(OMIError):
    """A value, or the whole request, comes in a form that is not read here."""

    code = ErrorCode.UNSUPPORTED_MEDIA_TYPE


class InvalidInput(OMIError):
    """A declared input holds something wrong. A model raises it to refuse an input."""

    code = ErrorCode.INVALID_INPUT


class ModelNotFound(OMIError):
    """No model of that name or version is served here."""

    code = ErrorCode.MODEL_NOT_FOUND


class ModelNotReady(OMIError):
    """The model failed to load, or the process is stopping."""

    code = ErrorCode.MODEL_NOT_READY


class NotOffered(OMIError):
    """Something optional that this model or server does not have."""

    code = ErrorCode.NOT_OFFERED


class TooLarge(OMIError):
    """Over a size limit; the message names the limit."""

    code = ErrorCode.TOO_LARGE


class Overloaded(OMIError):
    """The queue is full, or memory ran out: the caller may try again later."""

    code = ErrorCode.OVERLOADED


class DeadlineExceeded(OMIError):
    """Not answered in the time allowed."""

    code = ErrorCode.DEADLINE_EXCEEDED


class InferenceFailed(OMIError):
    """The author's code raised, or answered with something that its signature excludes."""

    code = ErrorCode.INFERENCE_FAILED


class InternalError(OMIError):
    """A bug of ours: the text is fixed, the traceback is in the log."""

    code = ErrorCode.INTERNAL

    def __init__(self, message: str = "internal error; the server's log has the details") -> None:
        super().__init__(message)


class StartupError(Exception):
    """The process cannot start. The message is one line for an operator.

    Attributes:
        exit_code: what the process ends with: 2 for settings, 3 for a start-up failure.
    """

    exit_code: ClassVar[int] = 1


class SettingsError(StartupError):
    """An environment variable or argument is wrong; names it, its value and what is valid."""

    exit_code = 2


class LoadError(StartupError):
    """The model did not load, or a port is taken."""

    exit_code = 3
