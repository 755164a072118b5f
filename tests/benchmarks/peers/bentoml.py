"""BentoML with one service and one worker, as its documentation begins."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

PACKAGE = "bentoml"
REQUIREMENTS = ("bentoml==1.4.40", "numpy")
OPENS_GRPC_ONLY = False

_SERVICE = """
import sys
sys.path.append({functions!r})
import bentoml
import functions
import numpy as np


@bentoml.service(
    workers=1, logging={{"access": {{"enabled": False}}}}, metrics={{"enabled": False}}
)
class Served:
    def __init__(self):
        self.function = functions.load({model!r})

    @bentoml.api
    def predict(self, instances: list) -> dict:
        rows = np.array(instances, dtype=np.float32)
        return {{"predictions": self.function(rows).tolist()}}
"""


def serve(model: str, http_port: str, _grpc_port: str) -> None:
    folder = Path(tempfile.mkdtemp(prefix="bentoml-"))
    functions = str(Path(__file__).parent.parent)
    (folder / "service.py").write_text(_SERVICE.format(functions=functions, model=model))
    os.chdir(folder)
    os.environ |= {"BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": str(folder / "home")}
    program = str(Path(sys.executable).parent / "bentoml")
    where = ["--host", "127.0.0.1", "--port", http_port]
    os.execv(program, [program, "serve", "service:Served", *where])


if __name__ == "__main__":
    serve(*sys.argv[1:])
