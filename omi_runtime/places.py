"""Where workers live, one after the other, and how much bad luck a place may have."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Final

from omi_runtime.worker import Child

CRASHES: Final = 5
"""How many workers one place may lose in a row before everything ends."""

STEADY_SECONDS: Final = 60.0
"""How long a worker has to have been ready for earlier crashes to be forgotten."""

BACKOFF_SECONDS: Final = 0.1
"""How long after the first crash another worker starts; twice as long after each further one."""


@dataclass
class Place:
    """One worker's place.

    Attributes:
        number: from 1, for the log.
        child: the worker that is there.
        due: when the next one is to start, a time of `time.monotonic`; None if none is wanted.
        crashes: in a row.
        adopted_by: the worker that takes the connections of this place, while its own is gone.
        trial_until: when the child has to be ready that was forked with a loaded model.
        gone_by: when the child has to have ended that has nothing left to do.
    """

    number: int
    child: Child | None = None
    due: float | None = None
    crashes: int = 0
    adopted_by: Child | None = None
    trial_until: float = math.inf
    gone_by: float = math.inf

    @property
    def ready(self) -> bool:
        """Whether a worker is there that can infer."""
        return self.child is not None and self.child.ready_since is not None

    @property
    def index(self) -> int:
        """The number from 0."""
        return self.number - 1

    def vacate(self) -> None:
        """The worker is gone; if it had been ready for long, earlier crashes are forgotten."""
        child, self.child = self.child, None
        self.trial_until = self.gone_by = math.inf
        since = child.ready_since if child else None
        if since is not None and time.monotonic() - since > STEADY_SECONDS:
            self.crashes = 0

    def crashed(self) -> float | None:
        """One more worker is lost: seconds until the next one starts; None if it is enough."""
        self.crashes += 1
        if self.crashes >= CRASHES:
            return None
        pause = BACKOFF_SECONDS * 2.0 ** (self.crashes - 1)
        self.due = time.monotonic() + pause
        return pause
