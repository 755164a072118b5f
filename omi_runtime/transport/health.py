"""The standard gRPC health service, `grpc.health.v1.Health`: Check, Watch and List.

SERVING means that the model can infer: loaded, and not draining. The empty service name stands for
the whole server. An unknown name is NOT_FOUND for Check and SERVICE_UNKNOWN for Watch (gRPC health
checking protocol).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final

from omi_runtime.errors import ModelNotFound
from omi_runtime.lifecycle import Lifecycle, State
from omi_runtime.transport._pb import health_pb2 as pb
from omi_runtime.transport.calls import Call, Method, Service
from omi_runtime.transport.status import STANDARD

SERVICE: Final = "grpc.health.v1.Health"


class HealthServicer:
    """Health of every service of a server, which share one model and so one state."""

    def __init__(self, lifecycle: Lifecycle, service_names: Sequence[str]) -> None:
        self._lifecycle = lifecycle
        self._names = ("", *service_names)

    async def check(self, request: pb.HealthCheckRequest, _call: Call) -> pb.HealthCheckResponse:
        """The state now."""
        if request.service not in self._names:
            raise ModelNotFound(
                f"no service {request.service!r} here, only {', '.join(self._names[1:])}"
            )
        return self._answer()

    async def list(self, _request: pb.HealthListRequest, _call: Call) -> pb.HealthListResponse:
        """The state of every service now."""
        return pb.HealthListResponse(statuses=dict.fromkeys(self._names, self._answer()))

    async def watch(
        self, request: pb.HealthCheckRequest, _call: Call
    ) -> AsyncIterator[pb.HealthCheckResponse]:
        """The state now and whenever it changes; ends with the drain, to hold up nothing."""
        if request.service not in self._names:
            unknown = pb.HealthCheckResponse.SERVICE_UNKNOWN
            yield pb.HealthCheckResponse(status=unknown)
            await self._lifecycle.wait_for(_is_ending)
            return
        while True:
            ready = self._lifecycle.ready
            yield self._answer()
            state = await self._lifecycle.wait_for(_has_left(ready=ready))
            if _is_ending(state):
                if ready:
                    yield self._answer()
                return

    def service(self) -> Service:
        """What the transport is given to offer the service."""
        return Service(
            SERVICE,
            {
                "Check": Method(self.check, pb.HealthCheckRequest, probe=True),
                "Watch": Method(
                    self.watch, pb.HealthCheckRequest, streams_responses=True, probe=True
                ),
                "List": Method(self.list, pb.HealthListRequest, probe=True),
            },
            STANDARD,
        )

    def _answer(self) -> pb.HealthCheckResponse:
        serving = self._lifecycle.ready
        status = pb.HealthCheckResponse.SERVING if serving else pb.HealthCheckResponse.NOT_SERVING
        return pb.HealthCheckResponse(status=status)


def _has_left(*, ready: bool) -> Callable[[State], bool]:
    return lambda state: (state is State.READY) != ready or _is_ending(state)


def _is_ending(state: State) -> bool:
    return state in (State.DRAINING, State.STOPPED)
