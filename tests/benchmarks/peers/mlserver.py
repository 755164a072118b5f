"""MLServer with a custom runtime, as its documentation writes one.

Without parallel workers, which for one model are a process more and slower. Adaptive batching is
on where a workload is about batches; debug is off, and with it the log of requests.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

PACKAGE = "mlserver"
REQUIREMENTS = ("mlserver==1.7.1", "scikit-learn")
OPENS_GRPC_ONLY = False

_RUNTIME = """
import sys
sys.path.append({functions!r})
import functions
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse


class Served(MLModel):
    async def load(self):
        self.function = functions.load({model!r})
        return True

    async def predict(self, payload):
        answer = self.function(NumpyCodec.decode_input(payload.inputs[0]))
        return InferenceResponse(
            model_name=self.name, outputs=[NumpyCodec.encode_output("y", answer)]
        )
"""


def is_ready(port: int) -> bool:
    """Its port is open before the model has loaded."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/health/ready") as response:
            return bool(response.status == 200)
    except urllib.error.URLError:
        return False


def serve(model: str, http_port: str, grpc_port: str) -> None:
    folder = Path(tempfile.mkdtemp(prefix="mlserver-"))
    functions = str(Path(__file__).parent.parent)
    (folder / "runtime.py").write_text(_RUNTIME.format(functions=functions, model=model))
    settings = {
        "debug": False,
        "host": "127.0.0.1",
        "http_port": int(http_port),
        "grpc_port": int(grpc_port),
        "metrics_endpoint": None,
        "parallel_workers": 0,
        "grpc_max_message_length": 2**28,
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    batching = {"max_batch_size": 64, "max_batch_time": 0.002}
    described = {"name": model, "implementation": "runtime.Served"}
    described |= batching if model in ("accelerator", "forest") else {}
    (folder / "model-settings.json").write_text(json.dumps(described))
    os.chdir(folder)
    program = str(Path(sys.executable).parent / "mlserver")
    os.execv(program, [program, "start", str(folder)])


if __name__ == "__main__":
    serve(*sys.argv[1:])
