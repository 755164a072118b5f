"""Callers of one server: good, bad, huge, hurried and rude ones, each on a thread of its own.

Everything that comes back is looked at. What is not as it should be is written down with its time:
a broken connection is right only when a worker has just been killed.
"""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

import grpc
import httpx
from clients import Answer, Client, Failure, Outcome
from models import FAIL, REFUSE

from omi_runtime.errors import ErrorCode

HUGE: Final = 20_000
"""Items in a huge request; some megabytes of JSON."""

BROKEN: Final = (httpx.TransportError, grpc.RpcError, OSError)
"""What a caller sees of a worker that is killed."""


@dataclass
class Book:
    """What all callers of a server have seen.

    Attributes:
        answered: requests by kind.
        wrong: what was not as it should be.
        broken: when a connection broke, and how.
    """

    answered: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    broken: list[tuple[float, str]] = field(default_factory=list)


class Caller(threading.Thread):
    """Asks one thing after the other until told to stop.

    Args:
        make: a client of a wire.
        book: where it writes down what it has seen.
        seed: of its choices.
    """

    def __init__(self, make: Callable[[], Client], book: Book, seed: int) -> None:
        self._make = make
        self._client = make()
        super().__init__(daemon=True, name=f"{self._client.wire}-{seed}")
        self._book = book
        self._random = random.Random(seed)
        self._over = threading.Event()

    def stop(self) -> None:
        """After the request that is under way."""
        self._over.set()

    def run(self) -> None:
        kinds: dict[str, tuple[int, Callable[[], None]]] = {
            "good": (60, self._good),
            "mixed": (15, self._mixed),
            "nonsense": (10, self._nonsense),
            "hurried": (5, self._hurried),
            "rude": (8, self._rude),
            "huge": (1, self._huge),
        }
        weights = [weight for weight, _ in kinds.values()]
        while not self._over.is_set():
            (kind,) = self._random.choices(list(kinds), weights)
            with self._watched(kind):
                kinds[kind][1]()
                self._book.answered[kind] += 1
        self._client.close()

    @contextlib.contextmanager
    def _watched(self, kind: str) -> Iterator[None]:
        begin = time.monotonic()
        try:
            yield
        except BROKEN as error:
            self._book.broken.append((time.monotonic(), f"{self.name}, {kind}: {error!r}"))
            self._client.close()
            self._client = self._make()
        except Exception as error:  # noqa: BLE001 - all is told at the end
            self._book.wrong.append(f"{self.name}, {kind}: {error!r}")
        if time.monotonic() - begin > 20:
            self._book.wrong.append(f"{self.name}, {kind}: took {time.monotonic() - begin:.0f} s")

    def _good(self) -> None:
        pairs = [self._pair() for _ in range(self._random.randint(1, 12))]
        _check(self._client.infer([{"pair": list(p)} for p in pairs]), pairs)

    def _mixed(self) -> None:
        """Bad items among good ones: they fail alone, or the request does, as the wire has it."""
        pairs = [self._pair() for _ in range(4)]
        bad = self._random.choice((REFUSE, FAIL))
        pairs[self._random.randrange(4)] = (float(bad), 7.0)
        _check(self._client.infer([{"pair": list(p)} for p in pairs]), pairs)

    def _huge(self) -> None:
        pairs = [self._pair()] * (50 if self._client.wire == "modzy" else HUGE)
        _check(self._client.infer([{"pair": list(p)} for p in pairs]), pairs)

    def _nonsense(self) -> None:
        failure = self._client.nonsense()
        assert failure is not None, "nonsense was answered"
        _check_connection(failure)
        assert failure.codes & {ErrorCode.INVALID_REQUEST, ErrorCode.INVALID_INPUT}, failure

    def _hurried(self) -> None:
        """Allows next to no time: right, or told that it is over."""
        pair = self._pair()
        self._client.limit = 0.002
        try:
            (outcome,) = self._client.infer([{"pair": list(pair)}])
        finally:
            self._client.limit = None
        if not _is_refused(outcome, ErrorCode.DEADLINE_EXCEEDED):
            _check([outcome], [pair])

    def _rude(self) -> None:
        """Says half of something, or nothing, and leaves."""
        with socket.create_connection(("127.0.0.1", self._client.port), timeout=20) as connection:
            head = b"POST /run HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{"
            connection.sendall(self._random.choice((b"", b"PRI * HT", head)))

    def _pair(self) -> tuple[float, float]:
        return (float(self._random.randint(1, 1000)), float(self._random.randint(1, 1000)))


def _is_refused(outcome: Outcome, code: ErrorCode) -> bool:
    return isinstance(outcome, Failure) and code in outcome.codes


def _check(outcomes: list[Outcome], pairs: list[tuple[float, float]]) -> None:
    """Every item has its own answer, or one of the failures that its request asked for."""
    assert len(outcomes) == len(pairs), f"{len(outcomes)} answers to {len(pairs)} items"
    if all(
        isinstance(o, Failure) and ErrorCode.OVERLOADED in o.codes and o.retry for o in outcomes
    ):
        return  # a huge request is before it
    trouble = {p[0] for p in pairs} & {REFUSE, FAIL}
    for outcome, (first, second) in zip(outcomes, pairs, strict=True):
        if isinstance(outcome, Answer):
            assert first > 0, f"{first} was answered"
            assert outcome.outputs == {"total": first + second}, outcome
            continue
        _check_connection(outcome)
        asked = {REFUSE: ErrorCode.INVALID_INPUT, FAIL: ErrorCode.INFERENCE_FAILED}
        expected = {asked[int(number)] for number in trouble}
        assert outcome.codes & expected, outcome


def _check_connection(failure: Failure) -> None:
    """gRPC tells of a connection that broke by UNAVAILABLE, and others of its own.

    Raises:
        ConnectionError: this is one; it is right only after a kill.
    """
    if failure.whole and (not failure.codes or ErrorCode.MODEL_NOT_READY in failure.codes):
        raise ConnectionError(failure.message)
