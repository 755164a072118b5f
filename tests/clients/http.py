"""What the HTTP wires have in common."""

from __future__ import annotations

import contextlib
import json
import socket
from typing import Any

import httpx

from clients.base import Client

LIMIT = 250 * 1024 * 1024


class HTTPClient(Client):
    """A wire over HTTP."""

    infer_path: str
    pages: tuple[str, ...] = ("/metrics",)

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.http = httpx.Client(
            base_url=f"http://127.0.0.1:{self.port}",
            timeout=30.0,
            trust_env=False,
            verify=False,  # there is no TLS here, and certificates take long to read
            event_hooks={"request": [self._say_limit]},
        )

    def get(self, path: str, seconds: float = 30.0) -> httpx.Response | None:
        """The answer to a GET; None if nobody listens or the answer takes longer."""
        try:
            return self.http.get(path, timeout=seconds)
        except (httpx.TimeoutException, httpx.NetworkError, httpx.RemoteProtocolError):
            return None

    def id_of(self, request_id: str | None, *, good: bool = True) -> str:
        path = "/" if good else self.infer_path
        content = b"" if good else b"cats and dogs"
        headers = {} if request_id is None else {"x-request-id": request_id}
        method = "GET" if good else "POST"
        answer = self.http.request(method, path, content=content, headers=headers)
        assert len(answer.headers.get_list("x-request-id")) == 1
        return str(answer.headers["x-request-id"])

    def lost(self) -> int:
        """A path that is not there, and a method that is not its path's."""
        assert self.http.get("/nowhere?secret=swordfish").status_code == 404
        assert self.http.put(self.infer_path, json={}).status_code == 405
        return 2

    def look(self) -> int:
        for page in self.pages:
            assert self.http.get(f"{page}?now").status_code == 200
        return len(self.pages)

    def announce(self, path: str, length: int) -> tuple[int, Any]:
        """Announce a body of some length and send nothing of it: the status and parsed answer."""
        head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n"
        with contextlib.closing(
            socket.create_connection(("127.0.0.1", self.port), timeout=30.0)
        ) as connection:
            connection.sendall(head.encode())
            # Read as a file: the answer's own length says where it ends.
            with connection.makefile("rb") as stream:
                status = int(stream.readline().split()[1])
                headers = dict(
                    line.decode().lower().strip().split(": ", 1)
                    for line in iter(stream.readline, b"\r\n")
                )
                body = stream.read(int(headers["content-length"]))
        return status, json.loads(body)

    def _say_limit(self, request: httpx.Request) -> None:
        if self.limit is not None:
            request.headers["x-request-timeout"] = str(self.limit)

    def close(self) -> None:
        self.http.close()
