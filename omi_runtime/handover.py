"""What becomes of a worker's listening sockets when it is gone: a survivor takes them meanwhile."""

from __future__ import annotations

from collections.abc import Sequence

from omi_runtime.places import Place
from omi_runtime.transport.shared_port import SharedPorts
from omi_runtime.worker import Child


class Handover:
    """The supervisor's part of it.

    Args:
        places: of the workers.
        ports: which they share.
    """

    def __init__(self, places: Sequence[Place], ports: SharedPorts) -> None:
        self._places = places
        self._ports = ports

    def left(self, child: Child, port: int | None = None, *, for_good: bool) -> None:
        """What a worker listened to is for another one; if there is none, it refuses connections.

        Args:
            child: the worker, which is gone or about to go.
            port: which it has left; None for all.
            for_good: no worker is to listen any more.
        """
        for place in self._places:
            if child not in (place.child, place.adopted_by):
                continue
            place.adopted_by = None if for_good else self._survivor(child)
            if place.adopted_by is not None:
                place.adopted_by.line.tell("adopt", str(place.index))
            else:
                self._ports.silence(place.index, port)

    def taken(self, place: Place) -> None:
        """A place's own worker listens now."""
        if place.adopted_by is not None:
            place.adopted_by.line.tell("release", str(place.index))
            place.adopted_by = None

    def _survivor(self, gone: Child) -> Child | None:
        """The ready worker with the fewest places of others."""
        able = [
            place.child
            for place in self._places
            if place.child and place.ready and not place.child.leaving and place.child is not gone
        ]
        adopted = [place.adopted_by for place in self._places]
        return min(able, key=adopted.count, default=None)
