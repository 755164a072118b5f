"""What a server with workers uses: memory, descriptors, threads."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path

from clients import Server, process


@dataclass(frozen=True)
class Census:
    """Of one process, or the sum of several.

    Attributes:
        resident: KiB of memory that is its own or shared.
        descriptors: open files and sockets.
        threads: of all kinds.
    """

    resident: int
    descriptors: int
    threads: int


def workers(server: Server) -> list[int]:
    """The processes that serve: the supervisor's children."""
    return process.children(server.process.pid)


def oldest(server: Server) -> int:
    """The worker that has lived longest: to kill one place again and again ends the server."""

    def started(pid: int) -> int:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])

    return min(workers(server), key=started)


def take(pid: int) -> Census | None:
    """Of a process; None if it has ended."""
    folder = Path(f"/proc/{pid}")
    try:
        lines = (folder / "status").read_text().splitlines()
        descriptors = len(list((folder / "fd").iterdir()))
    except OSError:
        return None
    numbers = {
        name: line.split()[0]
        for name, _, line in (each.partition(":") for each in lines)
        if name in ("VmRSS", "Threads")
    }
    if "VmRSS" not in numbers:  # it has ended, and nobody has collected it yet
        return None
    return Census(int(numbers["VmRSS"]), descriptors, int(numbers["Threads"]))


def typical(server: Server) -> Census:
    """The median worker, which a killed one's young successor does not move much."""
    taken = [census for pid in workers(server) if (census := take(pid))]
    return Census(
        *(
            int(statistics.median(getattr(census, name) for census in taken))
            for name in ("resident", "descriptors", "threads")
        )
    )


def supervisor(server: Server) -> Census:
    """Of the process that watches over the workers."""
    census = take(server.process.pid)
    assert census is not None, "the supervisor has ended"
    return census
