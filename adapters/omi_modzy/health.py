"""`omi health` over the Modzy interface."""

from __future__ import annotations

from omi_modzy.adapter import ModzyAdapter
from omi_runtime.transport.probes import Endpoint, check_http


def check(endpoint: Endpoint) -> None:
    """By `/status`.

    Raises:
        Unhealthy: the model cannot infer.
    """
    check_http(endpoint, ModzyAdapter.probes.ready)
