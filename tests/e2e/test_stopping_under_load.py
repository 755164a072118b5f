"""A stop while callers keep calling: whoever was let in is answered, nobody is cut off mid-way."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from clients import MODELS, until
from omi_grpc._pb import model_pb2 as pb

CALLERS = 24
BEFORE = 200
"""Requests answered before the signal, so that all callers are at it."""


@pytest.fixture
def serve(servers: Any, marks: Path) -> Any:
    def start(interface: str) -> Any:
        return servers(INTERFACE=interface, OMI_MODEL=f"{MODELS}:Totals", MARKS=marks)

    return start


async def hammer(server: Any, call: Any) -> Counter[str]:
    """Callers that call until they are turned away; the signal comes in the midst of it."""
    told: Counter[str] = Counter()

    async def caller() -> None:
        while (outcome := await call()) == "answered":
            told[outcome] += 1
        told[outcome] += 1

    callers = [asyncio.create_task(caller()) for _ in range(CALLERS)]
    await asyncio.to_thread(until, lambda: told["answered"] > BEFORE, "callers are answered")
    server.signal()
    async with asyncio.timeout(30):
        await asyncio.gather(*callers)
    return told


async def test_keep_alive_requests_are_answered(serve: Any) -> None:
    server = serve("kserve")
    port = server.port("kserve")
    body = json.dumps({"instances": [[1.0, 2.0]]}).encode()
    head = f"POST /v1/models/totals:predict HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}"
    request = head.encode() + b"\r\n\r\n" + body
    connections: dict[Any, Any] = {}

    async def call() -> str:
        me = asyncio.current_task()
        if me not in connections:
            try:
                connections[me] = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                return "refused"
        reader, writer = connections[me]
        try:
            writer.write(request)
            answer = await reader.readuntil(b"\r\n\r\n")
            length = int(answer.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            await reader.readexactly(length)
        except (ConnectionError, asyncio.IncompleteReadError):
            return "lost"
        if b"connection: close" in answer.lower():
            writer.close()
            del connections[me]
        return "answered" if b" 200 " in answer.partition(b"\r\n")[0] else repr(answer)

    told = await hammer(server, call)
    for _, writer in connections.values():
        writer.close()
    assert set(told) == {"answered", "refused"}, told
    assert await asyncio.to_thread(server.wait) == 0


async def test_calls_are_answered_or_sent_elsewhere(serve: Any) -> None:
    """UNAVAILABLE is what clients and balancers try again; CANCELLED they do not."""
    server = serve("omi")
    item = pb.InputItem(input={"pair": b"[1, 2]"})
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port('omi')}") as channel:
        run = channel.unary_unary(
            "/ModzyModel/Run", pb.RunRequest.SerializeToString, pb.RunResponse.FromString
        )

        async def call() -> str:
            try:
                answer = await run(pb.RunRequest(inputs=[item]))
            except grpc.aio.AioRpcError as error:
                return error.code().name
            return "answered" if answer.outputs[0].success else repr(answer)

        told = await hammer(server, call)
    assert set(told) == {"answered", "UNAVAILABLE"}, told
    assert await asyncio.to_thread(server.wait) == 0
