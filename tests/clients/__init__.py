"""One small client for each wire, all with one face (`base.Client`), and servers to ask."""

from __future__ import annotations

from typing import Any

import pytest

from clients.base import Answer, Client, Failure, Item, Outcome, Spec, is_failure
from clients.kserve import KServeV1Client, KServeV2Client
from clients.kserve_grpc import KServeGRPCClient
from clients.modzy import ModzyClient
from clients.omi import OMIClient
from clients.process import MODELS, Server, until

WIRES: tuple[type[Client], ...] = (
    OMIClient,
    KServeV1Client,
    KServeV2Client,
    KServeGRPCClient,
    ModzyClient,
)


def each(*wires: type[Client]) -> Any:
    """Parameters of the fixture `wire`: those wires, or all."""
    return [pytest.param(wire, id=wire.wire) for wire in wires or WIRES]


def only(*wires: type[Client]) -> Any:
    """Run a test, or all of a module, over those wires alone."""
    return pytest.mark.parametrize("wire", each(*wires), indirect=True, scope="session")


per_interface = only(OMIClient, KServeV1Client, KServeGRPCClient, ModzyClient)
"""For tests of the process, where the wires of one port would say the same twice."""

__all__ = [
    "MODELS",
    "WIRES",
    "Answer",
    "Client",
    "Failure",
    "Item",
    "KServeGRPCClient",
    "KServeV1Client",
    "KServeV2Client",
    "ModzyClient",
    "OMIClient",
    "Outcome",
    "Server",
    "Spec",
    "each",
    "is_failure",
    "only",
    "per_interface",
    "until",
]
