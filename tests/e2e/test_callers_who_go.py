"""What becomes of requests whose callers have gone: nothing that waits reaches the model."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from clients import MODELS, Server, until
from omi_grpc._pb import model_pb2 as pb

QUEUED, GONE = 100, 90
HOLD = -8.0

Pair = list[float]
Answer = tuple[int, list[float] | None]


@pytest.fixture
def serve(servers: Any, marks: Path) -> Any:
    def start(interface: str, **settings: str) -> Server:
        model = f"{MODELS}:Ledger"
        return servers(INTERFACE=interface, OMI_MODEL=model, MARKS=marks, **settings)

    return start


def seen(marks: Path) -> list[str]:
    """The second numbers of the pairs that the model was called for, a line for each call."""
    return (marks / "calls").read_text().splitlines()


class HTTPCaller:
    """One request on a connection of its own."""

    def __init__(self, port: int, pairs: list[Pair], seconds: float) -> None:
        self.port = port
        body = json.dumps({"instances": pairs}).encode()
        head = f"POST /v1/models/ledger:predict HTTP/1.1\r\nhost: x\r\nx-request-timeout: {seconds}"
        self.request = f"{head}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body

    async def call(self) -> None:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.writer.write(self.request)
        await self.writer.drain()

    async def leave(self) -> None:
        self.writer.close()
        await self.writer.wait_closed()

    async def answer(self) -> Answer:
        """The status, and the totals if there are some."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        body = json.loads(await self.reader.readexactly(length))
        await self.leave()
        return int(head.split()[1]), body.get("predictions")


class GRPCCaller:
    """One call among others of one channel."""

    def __init__(self, channel: grpc.aio.Channel, pairs: list[Pair], seconds: float) -> None:
        self.method = channel.unary_unary(
            "/ModzyModel/Run", pb.RunRequest.SerializeToString, pb.RunResponse.FromString
        )
        items = [pb.InputItem(input={"pair": json.dumps(pair).encode()}) for pair in pairs]
        self.request = pb.RunRequest(inputs=items)
        self.seconds = seconds

    async def call(self) -> None:
        self.running = self.method(self.request, timeout=self.seconds)

    async def leave(self) -> None:
        assert self.running.cancel()

    async def answer(self) -> Answer:
        """The status in HTTP's words, and the totals if there are some."""
        try:
            answer = await self.running
        except grpc.aio.AioRpcError as error:
            return {grpc.StatusCode.DEADLINE_EXCEEDED: 504}[error.code()], None
        if answer.status_code != 200:
            return answer.status_code, None
        results = [json.loads(output.output["results.json"]) for output in answer.outputs]
        return 200, [result["data"]["result"] for result in results]


@asynccontextmanager
async def callers_of(interface: str, port: int) -> AsyncIterator[Any]:
    """Makes callers: of some pairs, who wait for some seconds."""
    if interface == "kserve":
        yield lambda pairs, seconds=60.0: HTTPCaller(port, pairs, seconds)
        return
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield lambda pairs, seconds=60.0: GRPCCaller(channel, pairs, seconds)


async def until_told(status: int, caller: Any, pairs: list[Pair]) -> None:
    """Ask until that is the answer: 503 while there is no room, 504 if there is, but no model."""
    while True:
        asking = caller(pairs, 0.25)
        await asking.call()
        told, _ = await asking.answer()
        assert told in (503, 504)
        if told == status:
            return


@pytest.mark.parametrize("interface", ["kserve", "omi"])
async def test_of_100_that_wait_90_go_and_10_are_answered(
    serve: Any, marks: Path, interface: str
) -> None:
    server = serve(interface, OMI_QUEUE_SIZE=str(QUEUED + 1))
    port = await asyncio.to_thread(server.port, interface)
    await asyncio.to_thread(server.wait_for_log, "is ready")
    async with callers_of(interface, port) as caller, asyncio.timeout(60):
        first = caller([[HOLD, 0.0]])
        await first.call()
        await asyncio.to_thread(until, (marks / "holding").exists, "a prediction runs")
        callers = [caller([[1.0, float(i)]]) for i in range(QUEUED)]
        for each in callers:
            await each.call()
        await until_told(503, caller, [[2.0, 0.0]])
        for each in callers[:GONE]:
            await each.leave()
        await until_told(504, caller, [[2.0, 0.0]] * GONE)
        (marks / "release").touch()
        assert await first.answer() == (200, [HOLD])
        answers = [await each.answer() for each in callers[GONE:]]
    assert answers == [(200, [1.0 + i]) for i in range(GONE, QUEUED)]
    assert len(seen(marks)) <= QUEUED - GONE + 1
    server.signal()
    assert await asyncio.to_thread(server.wait) == 0
    assert "Traceback" not in server.log
