"""One output file on its way to its place: whole, or not at all, even if the process is killed."""

from __future__ import annotations

import errno
import os
import secrets
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Self

from omi_runtime.folders import Folder, check_replaceable


class Draft:
    """One output on its way to its place; left as a context, it is given up unless published.

    Args:
        folder: of the output.
        name: what it will be called.
        alone: it is the only one: whether it may take its place can be found out then.

    Raises:
        OSError: it cannot be made, or there is something of that name that is no file.
    """

    def __init__(self, folder: Folder, name: str, *, alone: bool) -> None:
        self.name = name
        self._folder = folder
        self._replaces = None if alone else check_replaceable(folder, name)
        self._temporary = ""
        self._descriptor = -1
        self._open()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_raised: object) -> None:
        # Where closing tells of a disk that is full, waiting for the disk has told it before, or
        # nobody wants the file.
        with suppress(OSError):
            if self._temporary and self._is_ours(self._temporary):
                self._unlink(self._temporary)
        with suppress(OSError):
            os.close(self._descriptor)

    def write(self, data: bytes) -> None:
        """Write all of it."""
        written = os.write(self._descriptor, data)
        while written < len(data):
            written += os.write(self._descriptor, memoryview(data)[written:])
        if len(data) < _BEGUN_BELOW and sys.platform == "linux":
            # Begins to write without waiting: when all of several are under way, waiting for each
            # takes a third of the time. Of large files it would drop what is on the disk already
            # from memory, where the reader is to find it.
            with suppress(OSError):  # not every file system takes advice
                os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_DONTNEED)

    def sync(self) -> None:
        """Wait until the disk has it."""
        os.fsync(self._descriptor)

    def publish(self) -> None:
        """Take the place, of an older file too, in one step."""
        if not self._temporary and not self._replaces:
            try:
                self._link(self.name)
            except FileExistsError:  # an older one is there, or another job was faster
                pass
            else:
                return
        if self._replaces is None:
            check_replaceable(self._folder, self.name)
        if not self._temporary:
            # The system gives a file without a name one that is free: over another it is two steps.
            self._temporary = self._under_a_name_of_its_own(self._link)
        if not self._is_ours(self._temporary):
            raise OSError(errno.ESTALE, f"somebody else made {self._temporary!r} meanwhile")
        self._rename(self._temporary)
        self._temporary = ""

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
            at, within = self._folder.prefix + name, self._folder.descriptor
            changed = os.stat(at, dir_fd=within, follow_symlinks=False).st_ctime
            if time.time() - changed > _LEFT_SECONDS:
                self._unlink(name)

    def _is_ours(self, name: str) -> bool:
        """Not if it was taken for one that a killed process left, and is another job's now."""
        at, within = self._folder.prefix + name, self._folder.descriptor
        there = os.stat(at, dir_fd=within, follow_symlinks=False)
        return os.path.samestat(os.fstat(self._descriptor), there)

    def _create(self, name: str) -> None:
        self._descriptor = self._make(name, _NAMED)

    def _make(self, name: str, flags: int) -> int:
        return os.open(self._folder.prefix + name, flags, 0o666, dir_fd=self._folder.descriptor)

    def _link(self, name: str) -> None:
        source, target = f"/proc/self/fd/{self._descriptor}", self._folder.prefix + name
        # With a descriptor, even one that an absolute path ignores, Python calls linkat and not
        # link, which would not follow the source to the file.
        within = self._folder.descriptor
        os.link(source, target, src_dir_fd=self._descriptor, dst_dir_fd=within)

    def _rename(self, name: str) -> None:
        prefix, within = self._folder.prefix, self._folder.descriptor
        os.rename(prefix + name, prefix + self.name, src_dir_fd=within, dst_dir_fd=within)

    def _unlink(self, name: str) -> None:
        os.unlink(self._folder.prefix + name, dir_fd=self._folder.descriptor)


_WRITE: Final = os.O_WRONLY | os.O_CLOEXEC
_NAMED: Final = _WRITE | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
_UNNAMED: Final = _WRITE | os.O_TMPFILE if os.path.isdir("/proc/self/fd") else 0  # noqa: PTH112
_BEGUN_BELOW: Final = 1024 * 1024
_LEFT_SECONDS: Final = 60.0
"""How old a file under such a name is when nobody is at it any more."""
