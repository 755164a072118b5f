"""LitServe with one API and one worker, as its documentation begins."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

PACKAGE = "litserve"
REQUIREMENTS = ("litserve==0.2.19", "numpy")
OPENS_GRPC_ONLY = False

# A file of its own, for its workers import it.
_SERVICE = """
import sys
sys.path.append({functions!r})
import functions
import litserve
import numpy as np


class API(litserve.LitAPI):
    def setup(self, device):
        self.function = functions.load({model!r})

    def decode_request(self, request):
        return np.array(request["instances"], dtype=np.float32)

    def predict(self, rows):
        return self.function(rows)

    def encode_response(self, answer):
        return {{"predictions": answer.tolist()}}


if __name__ == "__main__":
    server = litserve.LitServer(API(), accelerator="cpu", workers_per_device=1)
    server.run(
        host="127.0.0.1", port={port}, log_level="error", generate_client_file=False
    )
"""


def serve(model: str, http_port: str, _grpc_port: str) -> None:
    folder = Path(tempfile.mkdtemp(prefix="litserve-"))
    functions = str(Path(__file__).parent.parent)
    service = _SERVICE.format(functions=functions, model=model, port=int(http_port))
    (folder / "service.py").write_text(service)
    os.chdir(folder)
    os.execv(sys.executable, [sys.executable, "service.py"])


if __name__ == "__main__":
    serve(*sys.argv[1:])
