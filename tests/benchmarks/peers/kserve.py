"""KServe's own Python server, with a custom model as its documentation writes one.

One process, as it is by default; the log of requests is off.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

PACKAGE = "kserve"
REQUIREMENTS = ("kserve==0.21.0", "scikit-learn")
OPENS_GRPC_ONLY = False


def serve(model: str, http_port: str, grpc_port: str) -> None:
    sys.path.append(str(Path(__file__).parent.parent))
    import functions
    import numpy as np
    from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer

    function = functions.load(model)

    class Served(Model):
        def __init__(self) -> None:
            super().__init__(model)
            self.ready = True

        def predict(self, payload: Any, _headers: Any = None, _parameters: Any = None) -> Any:
            if not isinstance(payload, InferRequest):
                rows = np.array(payload["instances"], dtype=np.float32)
                return {"predictions": function(rows).tolist()}
            tensor = payload.inputs[0]
            answer = function(tensor.as_numpy())
            datatype = {"f": "FP32", "i": "INT64"}[answer.dtype.kind]
            output = InferOutput("y", list(answer.shape), datatype)
            binary = payload.use_binary_outputs
            output.set_data_from_numpy(answer, binary_data=binary or payload.from_grpc)
            return InferResponse(
                payload.id or "",
                self.name,
                [output],
                use_binary_outputs=binary,
                requested_outputs=payload.request_outputs,
            )

    server = ModelServer(
        http_port=int(http_port),
        grpc_port=int(grpc_port),
        workers=1,
        enable_latency_logging=False,
        access_log_format=None,
    )
    server.start([Served()])


if __name__ == "__main__":
    serve(*sys.argv[1:])
