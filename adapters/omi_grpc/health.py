"""`omi health` over the OMI interface."""

from __future__ import annotations

from omi_runtime.transport.probes import Endpoint, check_grpc


def check(endpoint: Endpoint) -> None:
    """By gRPC's standard health service: a Status would load a model again that has failed to.

    Raises:
        Unhealthy: the model cannot infer.
    """
    check_grpc(endpoint)
