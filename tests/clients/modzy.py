"""The Modzy wire: REST v1, whose inputs and outputs are files in directories. A job is one item."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

import httpx

from clients.base import Failure, Item, Outcome
from clients.files import files_of, outputs_of
from clients.http import LIMIT, HTTPClient
from omi_runtime.errors import ErrorCode

_CODES: Final = {
    400: {ErrorCode.INVALID_REQUEST},
    413: {ErrorCode.TOO_LARGE},
    415: {ErrorCode.UNSUPPORTED_MEDIA_TYPE},
    422: {ErrorCode.INVALID_INPUT},
    500: {ErrorCode.INFERENCE_FAILED, ErrorCode.INTERNAL, ErrorCode.MODEL_NOT_READY},
    501: {ErrorCode.NOT_OFFERED},
    503: {ErrorCode.OVERLOADED},
    504: {ErrorCode.DEADLINE_EXCEEDED},
}


class ModzyClient(HTTPClient):
    wire: ClassVar = "modzy"
    interface: ClassVar = "modzy"
    opens_early: ClassVar = True
    item_errors: ClassVar = True
    explains: ClassVar = True
    stops: ClassVar = True
    infer_path = "/run"

    def live(self) -> bool:
        # /status waits while the model loads, and there is no other health: any answer will do.
        answer = self.get("/", 5.0)
        return answer is not None and _content(answer)["statusCode"] == 404

    def ready(self) -> bool:
        # It waits while the model loads, so what takes long is a no.
        answer = self.get("/status", 0.5)
        return answer is not None and _content(answer)["statusCode"] == 200

    def infer(self, items: Sequence[Item], *, explain: bool = False) -> list[Outcome]:
        return [self._job(files_of(item, self.spec), explain=explain) for item in items]

    def nonsense(self) -> Failure | None:
        headers = {"content-type": "application/json"}
        return _failure(self.http.post("/run", content=b"cats and dogs", headers=headers))

    def foreign(self) -> Failure | None:
        headers = {"content-type": "text/plain"}
        return _failure(self.http.post("/run", content=b"cats and dogs", headers=headers))

    def oversized(self) -> Failure | None:
        status, content = self.announce("/run", LIMIT + 1)
        return Failure(frozenset(_CODES[status]), content["message"], whole=True)

    def reload(self) -> Failure | None:
        return _failure(self.http.get("/status"))

    def stop(self) -> Failure | None:
        answer = self.http.post("/shutdown")
        if answer.status_code != 202:
            return _failure(answer)
        assert _content(answer) == {"statusCode": 202, "status": "Accepted", "message": "exiting"}
        return None

    def _job(self, files: dict[str, bytes], *, explain: bool) -> Outcome:
        with tempfile.TemporaryDirectory(dir=self.directory) as place:
            Path(place).chmod(0o777)  # the server may be another user
            source, target = Path(place, "in"), Path(place, "out", "deep")
            source.mkdir()
            for name, data in files.items():
                (source / name).write_bytes(data)
            body: dict[str, Any] = {"type": "file", "input": str(source), "output": str(target)}
            if explain:
                body["explain"] = True
            refused = _failure(self.http.post("/run", json=body))
            if refused:
                assert not any(target.iterdir()), "a failed job left files behind"
                return refused
            written = {path.name: path.read_bytes() for path in target.iterdir()}
        return outputs_of(written, self.spec)


def _content(answer: httpx.Response) -> dict[str, Any]:
    """The one shape of every answer."""
    assert answer.headers["content-type"] == "application/json", answer.headers
    content: dict[str, Any] = answer.json()
    assert set(content) == {"statusCode", "status", "message"}, content
    assert content["statusCode"] == answer.status_code, content
    return content


def _failure(answer: httpx.Response) -> Failure | None:
    content = _content(answer)
    if answer.status_code == 200:
        return None
    retry = "retry-after" in answer.headers
    return Failure(frozenset(_CODES[answer.status_code]), content["message"], retry=retry)
