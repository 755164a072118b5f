"""This runtime, started as its README says; the environment chooses the interface."""

from __future__ import annotations

import os
import sys
from pathlib import Path

PACKAGE = "omi-runtime"
REQUIREMENTS: tuple[str, ...] = ()
OPENS_GRPC_ONLY = False


def serve(model: str, http_port: str, grpc_port: str) -> None:
    folder = Path(__file__).parent.parent
    interface = os.environ.setdefault("INTERFACE", "kserve")
    os.environ |= {
        "OMI_MODEL": f"{folder / 'models.py'}:{model.capitalize()}",
        "HTTP_PORT": grpc_port if interface == "omi" else http_port,
        "OMI_HOST": "127.0.0.1",
        "OMI_LOG_LEVEL": "warning",
    }
    os.environ |= {"OMI_GRPC_PORT": grpc_port} if interface == "kserve" else {}
    os.environ |= {"OMI_METRICS_PORT": http_port} if interface == "omi" else {}
    from omi_runtime.cli import main  # as the program `omi` does

    sys.exit(main(["serve"]))


if __name__ == "__main__":
    serve(*sys.argv[1:])
