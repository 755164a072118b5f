"""`omi health` over the KServe interface."""

from __future__ import annotations

from omi_kserve.adapter import KServeAdapter
from omi_runtime.transport.probes import Endpoint, check_http


def check(endpoint: Endpoint) -> None:
    """By V2's `/v2/health/ready`.

    Raises:
        Unhealthy: the model cannot infer.
    """
    check_http(endpoint, KServeAdapter.probes.ready)
