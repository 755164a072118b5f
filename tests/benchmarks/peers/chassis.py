"""Chassis's own OMI server, from the context that its builder makes for an image.

Its log line for every request is off.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path

PACKAGE = "chassisml"
REQUIREMENTS = ("chassisml==1.5.0",)
OPENS_GRPC_ONLY = True


def serve(model: str, _http_port: str, grpc_port: str) -> None:
    sys.path.append(str(Path(__file__).parent.parent))
    import functions
    import numpy as np
    from chassisml import ChassisModel

    function = functions.load(model)

    def linear(inputs: Mapping[str, bytes]) -> dict[str, bytes]:
        row = np.array(json.loads(inputs["x"]), dtype=np.float32)
        return _results(function(row).tolist())

    def weigh(inputs: Mapping[str, bytes]) -> dict[str, bytes]:
        return _results(function(inputs["x"]))

    packaged = ChassisModel(process_fn=linear if model == "linear" else weigh)
    packaged.metadata.model_name = model
    packaged.metadata.model_version = "1.0.0"
    packaged.metadata.add_input("x", ["application/json"], "10M", "x")
    packaged.metadata.add_output("results.json", "application/json", "10M", "y")
    os.chdir(packaged.prepare_context().base_dir)
    os.environ["PSC_MODEL_PORT"] = grpc_port
    logging.disable(logging.WARNING)
    from chassis.server.omi import serve as serve_omi

    asyncio.run(serve_omi())


def _results(value: object) -> dict[str, bytes]:
    content = {"data": {"result": value, "explanation": None, "drift": None}}
    return {"results.json": json.dumps(content, separators=(",", ":")).encode()}


if __name__ == "__main__":
    serve(*sys.argv[1:])
