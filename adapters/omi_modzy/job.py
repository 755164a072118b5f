"""A `/run` body → a job: the checks of Modzy's REST specification, in its order; and its files."""

from __future__ import annotations

import errno
import os
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from omi_runtime.errors import InvalidRequest, UnsupportedMediaType
from omi_runtime.items import Item, ItemCodec
from omi_runtime.signature import Signature


@dataclass(frozen=True)
class Job:
    """Where a run's input files lie and where its output files go."""

    input: Path
    output: Path


def read_job(body: bytes, media_type: str) -> Job:
    """Parse a body whatever its content type, which only tells how a body that is none is refused.

    Raises:
        UnsupportedMediaType: no JSON object, and not called JSON either.
        InvalidRequest: what Modzy's specification answers with 400.
    """
    content = _parse(body)
    if content is None:
        if media_type != "application/json":
            raise UnsupportedMediaType(
                f"the body is no JSON object and its Content-Type is {media_type!r}: send "
                'application/json like {"type": "file", "input": "<dir>", "output": "<dir>"}'
            )
        raise InvalidRequest("the body is no JSON object")
    if content.get("type") != "file":
        raise InvalidRequest("type: expected 'file'")
    for key in ("input", "output"):
        if not isinstance(content.get(key), str):
            raise InvalidRequest(f"{key}: expected the path of a directory")
        if "\0" in content[key]:
            raise InvalidRequest(f"{key}: a path cannot hold a NUL character")
    return Job(Path(content["input"]), Path(content["output"]))


def make_output_directory(job: Job) -> None:
    """Create the output directory and its parents.

    Raises:
        InvalidRequest: it cannot be.
    """
    try:
        job.output.mkdir(parents=True, exist_ok=True)
    except (OSError, RecursionError) as error:  # pathlib makes parents recursively
        why = error.strerror if isinstance(error, OSError) else "too many parents are missing"
        raise InvalidRequest(f"output {str(job.output)!r} cannot be made: {why}") from None


def open_job(job: Job, signature: Signature, codec: ItemCodec) -> Item:
    """Make the output directory, then read the inputs. Raises what the two raise."""
    make_output_directory(job)
    return read_files(job, signature, codec)


def read_files(job: Job, signature: Signature, codec: ItemCodec) -> Item:
    """The declared inputs that are there, by file name.

    Raises:
        InvalidRequest: one is missing or cannot be read; names it.
    """
    files: dict[str, bytes] = {}
    for field in signature.inputs:
        try:
            present = [name for name in codec.file_names(field) if (job.input / name).is_file()]
            # The exact name comes first and wins; a second spelling of the same input is ignored.
            for name in present[:1]:
                files[name] = (job.input / name).read_bytes()
        except OSError as error:
            path = str(job.input / field.name)
            raise InvalidRequest(f"{path!r} cannot be read: {error.strerror}") from None
        if not present and field.required:
            raise InvalidRequest(
                f"input {field.name!r} is missing in {str(job.input)!r}: expected a file called "
                f"{' or '.join(codec.file_names(field))}"
            )
    return files


def write_files(job: Job, files: dict[str, bytes]) -> None:
    """Write all outputs or none: under temporary names first, which then take the files' places.

    Raises:
        InvalidRequest: the directory cannot be written to.
    """
    temporaries: dict[Path, Path] = {}
    path = job.output
    try:
        for name, data in files.items():
            path = job.output / name
            if path.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            handle, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=job.output)
            temporaries[path] = Path(temporary)
            with os.fdopen(handle, "wb") as stream:
                stream.write(data)
            temporaries[path].chmod(0o644)  # mkstemp's own mode lets nobody else read the result
        for path, written in temporaries.items():
            written.replace(path)
    except OSError as error:
        for written in temporaries.values():
            with suppress(OSError):
                written.unlink()
        raise InvalidRequest(f"{str(path)!r} cannot be written: {error.strerror}") from None


def _parse(body: bytes) -> dict[str, Any] | None:
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return content if isinstance(content, dict) else None
