"""A minimal OMI servicer on grpc.aio and uvloop: decodes, predicts and encodes inline.

It checks nothing, and its model holds up everybody else.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

PACKAGE = "grpcio"
REQUIREMENTS: tuple[str, ...] = ()
OPENS_GRPC_ONLY = True


def serve(model: str, _http_port: str, grpc_port: str) -> None:
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(model, int(grpc_port)))


async def _serve(model: str, port: int) -> None:
    sys.path.append(str(Path(__file__).parent.parent))
    import functions
    import grpc
    import grpc.aio
    import numpy as np
    import orjson
    from omi_grpc._pb import model_pb2 as pb

    function = functions.load(model)

    def read(data: bytes) -> Any:
        return data if model == "weigh" else np.array(orjson.loads(data), dtype=np.float32)

    async def run(request: Any, _context: Any) -> Any:
        outputs = []
        for item in request.inputs:
            answer = orjson.dumps(
                {"data": {"result": function(read(item.input["x"])), "explanation": None}}
                | {"drift": None},
                option=orjson.OPT_SERIALIZE_NUMPY,
            )
            outputs.append(pb.OutputItem(output={"results.json": answer}, success=True))
        return pb.RunResponse(
            status_code=200, status="OK", message="Inference executed", outputs=outputs
        )

    method = grpc.unary_unary_rpc_method_handler(
        run, pb.RunRequest.FromString, pb.RunResponse.SerializeToString
    )
    handler = grpc.method_handlers_generic_handler("ModzyModel", {"Run": method})
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((handler,))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    serve(*sys.argv[1:])
