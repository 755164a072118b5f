"""The files of one job: a folder with a file for each input, and a folder for the answer.

Outputs appear whole, or not at all. Each is written without a name (or, where the file system
cannot, under one that nobody looks for), brought to the disk, and only then put in its place, in
one step that replaces an older one. Killed at any moment, there is the old file or the new one.
`results.json`, where there is one, comes last: when it is new, so are the others.
"""

from __future__ import annotations

import io
import mmap
import os
from collections.abc import Callable, Generator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from omi_runtime.batch import Result, Row
from omi_runtime.card import RESULTS_FILE
from omi_runtime.drafts import Draft
from omi_runtime.errors import InvalidRequest, OMIError
from omi_runtime.folders import Folder, Roots
from omi_runtime.handler import ModelHandler
from omi_runtime.items import ItemCodec
from omi_runtime.signature import Bytes, Field, Signature

MAP_FROM: Final = 16 * 1024 * 1024
"""Bytes from which a file is mapped into memory. A mapped file that somebody shortens while it is
read ends the process, so that smaller ones, whose copy costs little, are read."""

Admit = Callable[[Field, str, int, bytes], None]
"""Raises what a file is refused with: gets its input, its name, its size and how it begins."""

_HEAD_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Job:
    """Where a run's input files lie and where its output files go."""

    input: str
    output: str


class JobFiles:
    """Reads and writes the files of jobs for one model. May be used by several threads at once.

    Args:
        signature: of the model.
        codec: of the signature.
        roots: where jobs may read and write.
        admit: looks at a file before it is read.
    """

    def __init__(
        self, signature: Signature, codec: ItemCodec, roots: Roots, admit: Admit | None = None
    ) -> None:
        self.signature = signature
        self._codec = codec
        self._roots = roots
        self._admit = admit
        self._inputs = [(field, codec.file_names(field)) for field in signature.inputs]

    @property
    def outputs(self) -> list[str]:
        """The names of the files that an answer has."""
        return self._codec.output_files

    def read(self, job: Job) -> Row:
        """Make the output folder, if it is missing; then read the values of one item.

        Raises:
            InvalidRequest: the folder cannot be made, or a file is missing or cannot be read.
            OMIError: a file does not hold what the signature says, or is not admitted.
        """
        make_output(job, self._roots)
        row = self._codec.decode(self._read_files(job.input))
        if isinstance(row, OMIError):
            raise row
        return row

    def write(self, job: Job, result: Result) -> Generator[None, None, None]:
        """Put all of an answer's files into the output folder, which is there, or none.

        Yields before and after it waits for the disk. Closed there, it has written nothing.

        Args:
            job: says where.
            result: of one item.

        Raises:
            OMIError: the item's own error, if it failed.
            InvalidRequest: the folder cannot be written to; names the file.
        """
        (files,) = self._codec.encode(result)
        if isinstance(files, OMIError):
            raise files
        path = job.output
        try:
            with self._roots.open_folder(job.output) as folder, ExitStack() as stack:
                drafts = list[Draft]()
                for name in sorted(files, key=RESULTS_FILE.__eq__):
                    path = f"{job.output}/{name}"
                    draft = Draft(folder, name, alone=len(files) == 1)
                    drafts.append(stack.enter_context(draft))
                    draft.write(files[name])
                yield
                for draft in drafts:
                    path = f"{job.output}/{draft.name}"
                    draft.sync()
                yield
                for draft in drafts:
                    path = f"{job.output}/{draft.name}"
                    draft.publish()
        except OSError as error:
            raise InvalidRequest(f"{path!r} cannot be written: {error.strerror}") from None

    def _read_files(self, path: str) -> dict[str, bytes | memoryview]:
        files: dict[str, bytes | memoryview] = {}
        try:
            with self._roots.open_folder(path) as folder:
                for field, names in self._inputs:
                    found = self._read_file(folder, field, names)
                    if found is not None:
                        files[found[0]] = found[1]
                    elif field.required:
                        raise self._missing(field, path)
                if not files:  # of optional ones; and where there are no roots, nobody has looked
                    os.stat(folder.prefix + ".", dir_fd=folder.descriptor)
        except (FileNotFoundError, NotADirectoryError):
            raise self._missing(self._inputs[0][0], path) from None
        except OSError as error:
            raise InvalidRequest(f"input {path!r} cannot be read: {error.strerror}") from None
        return files

    def _read_file(
        self, folder: Folder, field: Field, names: list[str]
    ) -> tuple[str, bytes | memoryview] | None:
        """The first of an input's spellings that is there, the exact name before all others."""
        failure: InvalidRequest | None = None
        for name in names:
            try:
                descriptor, size = self._roots.open_file(folder, name)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                place = f"{folder.path}/{name}"
                failure = InvalidRequest(f"{place!r} cannot be read: {error.strerror}")
                continue
            try:
                if self._admit is not None:
                    self._admit(field, name, size, os.pread(descriptor, _HEAD_BYTES, 0))
                return name, _content(descriptor, size, mapped=not isinstance(field.marker, Bytes))
            finally:
                os.close(descriptor)
        if failure is not None:
            raise failure
        return None

    def _missing(self, field: Field, path: str) -> InvalidRequest:
        names = " or ".join(self._codec.usual_names(field))
        return InvalidRequest(
            f"input {field.name!r} is missing in {path!r}: expected a file called {names}"
        )


def job_files(handler: ModelHandler, roots: Roots, *, enforce_card: bool) -> JobFiles:
    """The files of jobs for a model that has loaded.

    Args:
        handler: of the model.
        roots: where jobs may read and write.
        enforce_card: hold input files to the model's card.

    Raises:
        ModelNotReady: it has not loaded.
    """
    signature, admit = handler.signature, None
    if enforce_card and handler.card is not None:
        # Imported here, for it brings pydantic and yaml.
        from omi_runtime.cardlimits import CardLimits  # noqa: PLC0415

        admit = CardLimits(handler.card, signature)
    codec = ItemCodec(signature, handler.name, handler.settings.nan)
    return JobFiles(signature, codec, roots, admit)


def make_output(job: Job, roots: Roots) -> None:
    """Make the output folder and what it lies in, where they are missing.

    Raises:
        InvalidRequest: it cannot be.
    """
    try:
        roots.make_folder(job.output)
    except OSError as error:
        raise InvalidRequest(f"output {job.output!r} cannot be made: {error.strerror}") from None


def _content(descriptor: int, size: int, *, mapped: bool) -> bytes | memoryview:
    if mapped and size >= MAP_FROM:
        return memoryview(mmap.mmap(descriptor, size, access=mmap.ACCESS_READ))
    if size < MAP_FROM:
        data = os.read(descriptor, size + 1)  # one more, which is not there, tells the end
        if len(data) == size:
            return data
        os.lseek(descriptor, 0, os.SEEK_SET)  # it grows, or shrinks, while it is read
    return io.FileIO(descriptor, closefd=False).readall()
