"""A server that is offered far more than it can do says so, and does not grow.

`OVERLOAD_S` says for how many seconds; `pytest -s` shows the figures.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from clients import MODELS
from omi_grpc._pb import model_pb2 as pb

CALLERS = 40
WARM_UP, SECONDS = 1.5, float(os.environ.get("OVERLOAD_S", "3"))
SLEEP = -5.0
PADDING = b" " * 20_000
"""Makes every request large enough for its memory to be seen if it were kept."""

Call = Callable[[], Awaitable[str]]

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="memory is read from /proc"
)


def resident(pid: int) -> int:
    """Resident memory of a process, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


@asynccontextmanager
async def http_caller(port: int) -> AsyncIterator[Call]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = json.dumps({"instances": [[SLEEP, 0.1]]}).encode() + PADDING
    head = f"POST /v1/models/totals:predict HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}"
    request = head.encode() + b"\r\n\r\n" + body

    async def call() -> str:
        writer.write(request)
        answer = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(answer.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        await reader.readexactly(length)
        status = answer.split()[1].decode()
        assert (status == "503") == (b"retry-after: 1" in answer)
        return status

    yield call
    writer.close()
    await writer.wait_closed()


def grpc_caller(channel: grpc.aio.Channel) -> Call:
    run = channel.unary_unary(
        "/ModzyModel/Run", pb.RunRequest.SerializeToString, pb.RunResponse.FromString
    )
    item = pb.InputItem(input={"pair": json.dumps([SLEEP, 0.1]).encode() + PADDING})

    async def call() -> str:
        return str((await run(pb.RunRequest(inputs=[item]))).status_code)

    return call


async def offer(callers: list[Call], seconds: float) -> Counter[str]:
    """Call without a pause for some time; what was told how often."""
    told: Counter[str] = Counter()
    end = time.monotonic() + seconds

    async def hammer(call: Call) -> None:
        while time.monotonic() < end:
            told[await call()] += 1

    async with asyncio.timeout(seconds + 30):
        await asyncio.gather(*(hammer(call) for call in callers))
    return told


@pytest.mark.parametrize("interface", ["kserve", "omi"])
async def test_memory_stays_flat_at_ten_times_the_capacity(
    servers: Any, marks: Path, interface: str
) -> None:
    server = servers(
        INTERFACE=interface, OMI_MODEL=f"{MODELS}:Totals", MARKS=marks, OMI_QUEUE_SIZE="4"
    )
    port = await asyncio.to_thread(server.port, interface)
    await asyncio.to_thread(server.wait_for_log, "is ready")
    async with (
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
        AsyncExitStack() as connections,
    ):
        if interface == "kserve":
            callers = [
                await connections.enter_async_context(http_caller(port)) for _ in range(CALLERS)
            ]
        else:
            callers = [grpc_caller(channel)] * CALLERS
        await offer(callers, WARM_UP)
        before = resident(server.serving)
        told = await offer(callers, SECONDS)
        after = resident(server.serving)
    print(f"\n{interface}: {before / 2**20:.1f} MiB, then {after / 2**20:.1f} MiB; {dict(told)}")  # noqa: T201 - the figures
    assert set(told) == {"200", "503"}
    assert told["503"] >= 9 * told["200"], told
    assert after < 1.05 * before + 2**20, f"{before} bytes, then {after}"
    server.signal()
    assert await asyncio.to_thread(server.wait) == 0
