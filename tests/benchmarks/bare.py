"""The least that can answer a load generator: the yardstick of figures.py."""

from __future__ import annotations

import asyncio
import socket
import sys

import uvloop


def http() -> None:
    import uvicorn

    body = b'{"predictions":[[0.0,0.0,0.0]]}'
    head = {
        "type": "http.response.start",
        "status": 200,
        "headers": [(b"content-type", b"application/json"), (b"content-length", b"31")],
    }

    async def app(_scope, receive, send):
        await receive()
        await send(head)
        await send({"type": "http.response.body", "body": body})

    sock = socket.create_server(("127.0.0.1", 0))
    print(sock.getsockname()[1], file=sys.stderr, flush=True)
    config = uvicorn.Config(
        app, http="httptools", interface="asgi3", lifespan="off", access_log=False, log_config=None
    )
    uvicorn.Server(config).run(sockets=[sock])


async def grpc() -> None:
    """Decodes, predicts and encodes inline, on the event loop, and checks nothing."""
    import grpc
    import numpy as np
    import orjson
    from omi_grpc._pb import model_pb2 as pb

    weights = np.arange(12, dtype=np.float32).reshape(4, 3)

    async def run(request, _context):
        outputs = []
        for item in request.inputs:
            row = np.array(orjson.loads(item.input["x"]), dtype=np.float32)
            answer = orjson.dumps(
                {"data": {"result": row @ weights, "explanation": None, "drift": None}},
                option=orjson.OPT_SERIALIZE_NUMPY,
            )
            outputs.append(pb.OutputItem(output={"results.json": answer}, success=True))
        return pb.RunResponse(
            status_code=200, status="OK", message="Inference executed", outputs=outputs
        )

    method = grpc.unary_unary_rpc_method_handler(
        run, pb.RunRequest.FromString, pb.RunResponse.SerializeToString
    )
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("ModzyModel", {"Run": method}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, file=sys.stderr, flush=True)
    await server.wait_for_termination()


if sys.argv[1] == "http":
    http()
else:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(grpc())
