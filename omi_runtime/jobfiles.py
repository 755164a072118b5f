"""The files of one job: a folder with a file for each input, and a folder for the answer.

Outputs appear whole, or not at all. Each is written without a name (or, where the file system
cannot, under one that nobody looks for), brought to the disk, and only then put in its place, in
one step that replaces an older one. Killed at any moment, there is the old file or the new one.
`results.json`, where there is one, comes last: when it is new, so are the others.
"""

from __future__ import annotations

import errno
import io
import mmap
import os
import secrets
import sys
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from omi_runtime.batch import Result, Row
from omi_runtime.card import RESULTS_FILE
from omi_runtime.errors import InvalidRequest, OMIError
from omi_runtime.folders import Folder, Roots, check_replaceable
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

        Yields once, when the disk has been given all and would have to be waited for. Closed there,
        it has written nothing.

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
        path, drafts = job.output, list[_Draft]()
        try:
            with self._roots.open_folder(job.output) as folder:
                for name in sorted(files, key=RESULTS_FILE.__eq__):
                    path = f"{job.output}/{name}"
                    draft = _Draft(folder, name)
                    drafts.append(draft)
                    draft.write(files[name])
                yield
                for step in (_Draft.sync, _Draft.publish):
                    for draft in drafts:
                        path = f"{job.output}/{draft.name}"
                        step(draft)
        except OSError as error:
            raise InvalidRequest(f"{path!r} cannot be written: {error.strerror}") from None
        finally:
            for draft in drafts:
                draft.close()

    def _read_files(self, path: str) -> dict[str, bytes | memoryview]:
        files: dict[str, bytes | memoryview] = {}
        try:
            with self._roots.open_folder(path) as folder:
                for field, names in self._inputs:
                    found = self._read_file(folder, field, names)
                    if found is not None:
                        files[found[0]] = found[1]
                    elif field.required:
                        raise _missing(field, path, names)
        except (FileNotFoundError, NotADirectoryError):
            field, names = self._inputs[0]
            raise _missing(field, path, names) from None
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


def make_output(job: Job, roots: Roots) -> None:
    """Make the output folder and what it lies in, where they are missing.

    Raises:
        InvalidRequest: it cannot be.
    """
    try:
        roots.make_folder(job.output)
    except OSError as error:
        raise InvalidRequest(f"output {job.output!r} cannot be made: {error.strerror}") from None


def _missing(field: Field, path: str, names: list[str]) -> InvalidRequest:
    return InvalidRequest(
        f"input {field.name!r} is missing in {path!r}: expected a file called {' or '.join(names)}"
    )


def _content(descriptor: int, size: int, *, mapped: bool) -> bytes | memoryview:
    if mapped and size >= MAP_FROM:
        return memoryview(mmap.mmap(descriptor, size, access=mmap.ACCESS_READ))
    if size < MAP_FROM:
        data = os.read(descriptor, size + 1)  # one more, which is not there, tells the end
        if len(data) == size:
            return data
        os.lseek(descriptor, 0, os.SEEK_SET)  # it grows, or shrinks, while it is read
    return io.FileIO(descriptor, closefd=False).readall()


class _Draft:
    """One output on its way to its place.

    Args:
        folder: of the output.
        name: what it will be called.

    Raises:
        OSError: it cannot be made, or there is something of that name that is no file.
    """

    def __init__(self, folder: Folder, name: str) -> None:
        self.name = name
        self._folder = folder
        self._replaces = check_replaceable(folder, name)
        self._temporary = ""
        self._descriptor = -1
        self._open()

    def write(self, data: bytes) -> None:
        """Write all of it."""
        written = os.write(self._descriptor, data)
        while written < len(data):
            written += os.write(self._descriptor, memoryview(data)[written:])
        if len(data) < _BEGUN_BELOW and sys.platform == "linux":
            # Begins to write without waiting: when all of several are under way, waiting for each
            # takes a third of the time. Of large files it would drop what is on the disk already
            # from memory, where the reader is to find it.
            os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_DONTNEED)

    def sync(self) -> None:
        """Wait until the disk has it."""
        os.fsync(self._descriptor)

    def publish(self) -> None:
        """Take the place, of an older file too, in one step."""
        if not self._temporary:
            if not self._replaces:
                with suppress(FileExistsError):  # another job was faster: replace its file
                    self._link(self.name)
                    return
            # The system gives a file without a name one that is free: over another it is two steps.
            self._temporary = self._under_a_name_of_its_own(self._link)
        self._rename(self._temporary)
        self._temporary = ""

    def close(self) -> None:
        """Give up what has not been published."""
        os.close(self._descriptor)
        if self._temporary:
            with suppress(OSError):
                self._unlink(self._temporary)

    def _open(self) -> None:
        if _UNNAMED:
            try:
                self._descriptor = self._make(".", _UNNAMED)
                return
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
                    raise
        self._temporary = self._under_a_name_of_its_own(self._create)

    def _under_a_name_of_its_own(self, make: Callable[[str], None]) -> str:
        """Make a file under a name that only this draft has; returns the name.

        Mostly that is the same name, so that the next job finds what a killed process left there.
        """
        name = f".{self.name}.new"
        try:
            make(name)
        except FileExistsError:
            self._remove_if_left(name)
            name = f".{self.name}.{secrets.token_hex(8)}"
            make(name)
        return name

    def _remove_if_left(self, name: str) -> None:
        with suppress(FileNotFoundError):
            at, within = self._folder.at(name), self._folder.descriptor
            changed = os.stat(at, dir_fd=within, follow_symlinks=False).st_ctime
            if time.time() - changed > _LEFT_SECONDS:
                self._unlink(name)

    def _create(self, name: str) -> None:
        self._descriptor = self._make(name, _NAMED)

    def _make(self, name: str, flags: int) -> int:
        return os.open(self._folder.at(name), flags, 0o666, dir_fd=self._folder.descriptor)

    def _link(self, name: str) -> None:
        source, target = f"/proc/self/fd/{self._descriptor}", self._folder.at(name)
        # With a descriptor, even one that an absolute path ignores, Python calls linkat and not
        # link, which would not follow the source to the file.
        within = self._folder.descriptor
        os.link(source, target, src_dir_fd=self._descriptor, dst_dir_fd=within)

    def _rename(self, name: str) -> None:
        old, new, within = (
            self._folder.at(name),
            self._folder.at(self.name),
            self._folder.descriptor,
        )
        os.rename(old, new, src_dir_fd=within, dst_dir_fd=within)

    def _unlink(self, name: str) -> None:
        os.unlink(self._folder.at(name), dir_fd=self._folder.descriptor)


_WRITE: Final = os.O_WRONLY | os.O_CLOEXEC
_NAMED: Final = _WRITE | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
_UNNAMED: Final = _WRITE | os.O_TMPFILE if os.path.isdir("/proc/self/fd") else 0  # noqa: PTH112
_BEGUN_BELOW: Final = 1024 * 1024
_LEFT_SECONDS: Final = 60.0
"""How old a file under such a name is when nobody is at it any more."""
