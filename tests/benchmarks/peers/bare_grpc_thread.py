"""The minimal OMI servicer with its prediction on a thread of its own, and nothing else.

What it costs beyond `bare_grpc` is the price of probes that answer while a model computes.
"""

from __future__ import annotations

import asyncio
import queue
import sys
import threading
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

    loop = asyncio.get_running_loop()
    inbox: queue.SimpleQueue[tuple[asyncio.Future[Any], Any]] = queue.SimpleQueue()
    threading.Thread(target=_work, args=(inbox, loop, functions.load(model)), daemon=True).start()

    async def run(request: Any, _context: Any) -> Any:
        outputs = []
        for item in request.inputs:
            future: asyncio.Future[Any] = loop.create_future()
            row = np.array(orjson.loads(item.input["x"]), dtype=np.float32)
            inbox.put((future, row))
            content = {"data": {"result": await future, "explanation": None, "drift": None}}
            answer = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
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


def _work(inbox: Any, loop: asyncio.AbstractEventLoop, function: Any) -> None:
    def deliver(future: asyncio.Future[Any], answer: Any) -> None:
        if not future.done():
            future.set_result(answer)

    while True:
        future, row = inbox.get()
        loop.call_soon_threadsafe(deliver, future, function(row))


if __name__ == "__main__":
    serve(*sys.argv[1:])
