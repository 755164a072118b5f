"""How long a request may take, and the error that says so."""

from __future__ import annotations

import math
import time
from typing import Final

from omi_runtime.errors import DeadlineExceeded


class Limit:
    """Until when a request has to be answered, and who says so. It runs from when it is made.

    Attributes:
        deadline: a time of `time.monotonic`; infinity is no limit.
        seconds: how long that was from the beginning.
        source: who set it, for the message.
    """

    __slots__ = ("deadline", "seconds", "source")

    def __init__(self, seconds: float, source: str) -> None:
        self.seconds = seconds
        self.source = source
        self.deadline = time.monotonic() + seconds

    def error(self) -> DeadlineExceeded:
        """What the caller of a request that has expired is told."""
        return DeadlineExceeded(f"not answered within {self.seconds:.3g} s, the {self.source}")


CALLER: Final = "limit that the caller set"
NO_LIMIT: Final = Limit(math.inf, "limit that nobody set")
