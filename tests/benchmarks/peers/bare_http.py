"""The least that can answer JSON: a raw ASGI application on uvicorn, with a constant answer."""

from __future__ import annotations

import sys
from typing import Any

PACKAGE = "uvicorn"
REQUIREMENTS: tuple[str, ...] = ()
OPENS_GRPC_ONLY = False


def serve(_model: str, http_port: str, _grpc_port: str) -> None:
    import uvicorn

    body = b'{"predictions":[[0.0,0.0,0.0]]}'
    head = {
        "type": "http.response.start",
        "status": 200,
        "headers": [(b"content-type", b"application/json"), (b"content-length", b"31")],
    }

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(head)
        await send({"type": "http.response.body", "body": body})

    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(http_port),
        http="httptools",
        loop="uvloop",
        interface="asgi3",
        lifespan="off",
        access_log=False,
        log_config=None,
    )


if __name__ == "__main__":
    serve(*sys.argv[1:])
