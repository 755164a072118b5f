"""What the tests say to every interface, in words that belong to none.

A client speaks one wire. It turns items into that wire's requests, and what comes back into
`Answer` and `Failure`. The codes that a wire's sign can stand for are written down in the clients
from the architecture's table, apart from the adapters' own tables.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

from clients.process import Server
from omi_runtime.errors import ErrorCode

Item = Mapping[str, Any]
"""One thing to predict: plain Python values by input name; bytes are bytes."""


@dataclass(frozen=True)
class Spec:
    """What a client has to know of a model, beside what its interface tells.

    Attributes:
        source: `OMI_MODEL`.
        name: the name served.
        inputs: each input's V2 datatype, or `text`, `json` or `bytes`.
        outputs: the same of the outputs.
    """

    source: str
    name: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]


@dataclass(frozen=True)
class Answer:
    """What an item is answered with: outputs by name, and an explanation if one came."""

    outputs: Mapping[str, Any]
    explanation: Any = None


@dataclass(frozen=True)
class Failure:
    """What went wrong, as far as the wire can tell.

    Attributes:
        codes: the error codes that the wire's sign stands for.
        message: the wire's text.
        whole: the request failed as a whole, so that this is every item's outcome.
        retry: the wire says that the caller may try again later.
    """

    codes: frozenset[ErrorCode]
    message: str
    whole: bool = field(default=False, compare=False)
    retry: bool = field(default=False, compare=False)


Outcome = Answer | Failure


def is_failure(outcome: Outcome, code: ErrorCode) -> bool:
    """Whether an item failed, with a sign that stands for this code."""
    return isinstance(outcome, Failure) and code in outcome.codes


class Client(ABC):
    """One interface's wire, spoken to one server.

    Attributes:
        wire: its name in the tests' ids.
        interface: `INTERFACE`.
        opens_early: the port opens before the model has loaded.
        item_errors: a bad item fails alone; otherwise it fails the request.
        explains: an explanation can be asked for.
        stops: the server can be asked to stop.
        names_models: a request says which model it is for.
        mixes: the items of one request may have different inputs.
        carries_bytes: bytes that are no text can be sent and answered.
        carries_nan: the wire has a word for NaN.
        port_variable: the environment variable that sets the wire's port.
        limit: seconds that each request allows for its answer; None says nothing.
    """

    wire: ClassVar[str]
    interface: ClassVar[str]
    opens_early: ClassVar[bool]
    item_errors: ClassVar[bool]
    explains: ClassVar[bool]
    stops: ClassVar[bool]
    names_models: ClassVar[bool] = False
    mixes: ClassVar[bool] = True
    carries_bytes: ClassVar[bool] = True
    carries_nan: ClassVar[bool] = False
    port_variable: ClassVar[str] = "HTTP_PORT"
    limit: float | None = None

    def __init__(self, port: int, spec: Spec, directory: Path) -> None:
        self.port = port
        self.spec = spec
        self.directory = directory

    @classmethod
    def port_of(cls, server: Server) -> int:
        """The port of a server that speaks the wire, once it listens."""
        return server.port(cls.interface)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def live(self) -> bool:
        """Whether the process answers at all."""

    @abstractmethod
    def ready(self) -> bool:
        """Whether the model can infer, in the wire's own word for it."""

    @abstractmethod
    def infer(self, items: Sequence[Item], *, explain: bool = False) -> list[Outcome]:
        """Predict items: one outcome for each, in order."""

    @abstractmethod
    def nonsense(self) -> Failure | None:
        """The answer to a request that is none."""

    @abstractmethod
    def foreign(self) -> Failure | None:
        """The answer to a request in a form that is not read here."""

    def stranger(self) -> Failure | None:
        """The answer to a request for another model."""
        raise NotImplementedError(f"{self.wire} has no word for it")

    @abstractmethod
    def lost(self) -> int:
        """Ask for what the interface does not have; returns in how many requests."""

    def look(self) -> int:
        """Look at the pages that there are, and at the metrics; returns at how many."""
        return 0

    def metadata(self) -> bool:
        """Ask what the model takes; False if the wire has no such question."""
        return False

    @abstractmethod
    def oversized(self) -> Failure | None:
        """The answer to a request over the limit of its size."""

    @abstractmethod
    def id_of(self, request_id: str | None, *, good: bool = True) -> str:
        """The id that comes with an answer, to a request of this id, well formed or nonsense."""

    def reload(self) -> Failure | None:
        """Ask for the model to be loaded; what the wire says if it is not."""
        raise NotImplementedError(f"{self.wire} has no word for it")

    def stop(self) -> Failure | None:
        """Ask the server to stop; what it says if it refuses."""
        raise NotImplementedError(f"{self.wire} has no word for it")

    @abstractmethod
    def close(self) -> None:
        """Give back connections."""
