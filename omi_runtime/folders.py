"""Opening folders and files that a request names, inside the roots that an operator allows.

Where there are roots, a path from outside is never opened as it stands. It is resolved, compared
with the roots, and then walked from its root one name at a time without following symbolic links:
whoever swaps a folder for a link in between gets an error, not a file outside. What is no regular
file is not opened at all, for opening a device or a FIFO can wait for ever, or do something.

Each call of the system costs a small job a few per cent, so that without roots, where a path may
lead anywhere, paths are used as they are.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, Self

_FOLDER: Final = os.O_DIRECTORY | os.O_CLOEXEC | getattr(os, "O_PATH", os.O_RDONLY)
"""With O_PATH the right to pass through a folder is enough, as it is for a path."""

_FILE: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK

_MOST_PARTS: Final = 256
"""Folders in one path. Nobody has more on purpose, and a request could make any number of them."""

_KINDS: Final = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
    stat.S_IFLNK: "a symbolic link",
}


class Folder:
    """A folder whose files are reached with `folder.prefix + name` and `dir_fd=folder.descriptor`.

    Args:
        path: as the request names it.
        descriptor: of the folder, if it has been opened: then it does not matter what becomes of
            the path, and closing is up to whoever has the folder.
    """

    __slots__ = ("descriptor", "path", "prefix")

    def __init__(self, path: str, descriptor: int | None = None) -> None:
        self.path = path
        self.descriptor = descriptor
        self.prefix = f"{path}/" if descriptor is None else ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_raised: object) -> None:
        if self.descriptor is not None:
            os.close(self.descriptor)


class Roots:
    """The folders in which requests may read and write.

    Args:
        paths: absolute; with their symbolic links resolved now. None of them means anywhere.
    """

    def __init__(self, paths: Sequence[str] = ()) -> None:
        self._paths = tuple(os.path.realpath(path) for path in paths)

    def open_folder(self, path: str) -> Folder:
        """A folder to be closed by who asked, best with `with`.

        Args:
            path: of the folder; relative to the working directory if it is not absolute.

        Raises:
            OSError: there are roots, and there is no such folder, or it lies outside of them.
        """
        if not path:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        if not self._paths:
            # `make_folder` makes what is left of such a path, not what it leads through.
            return Folder(os.path.realpath(path) if ".." in path else path)
        return Folder(path, self._reach(path, make=False))

    def make_folder(self, path: str) -> None:
        """Make what is missing of a folder and of what it lies in.

        Raises:
            OSError: it cannot be, or it would lie outside of the roots.
        """
        if not self._paths:
            try:
                os.mkdir(path)  # noqa: PTH102 - a Path costs more than this
            except OSError:
                if os.path.isdir(path):  # noqa: PTH112
                    return
            else:
                return
        os.close(self._reach(path, make=True))

    def open_file(self, folder: Folder, name: str) -> tuple[int, int]:
        """A descriptor of a regular file to be read, and its size in bytes.

        Raises:
            OSError: there is none, it is something else, or a link that leaves the roots.
        """
        mode = os.stat(
            folder.prefix + name, dir_fd=folder.descriptor, follow_symlinks=False
        ).st_mode
        if not stat.S_ISLNK(mode):
            return _open_regular(folder, name, mode)
        # Mounted configuration is made of links: what counts is where they end.
        target, name = os.path.split(os.path.realpath(f"{folder.path}/{name}"))
        with Folder(target, self._enter(target, make=False)) as aside:
            mode = os.stat(name, dir_fd=aside.descriptor, follow_symlinks=False).st_mode
            return _open_regular(aside, name, mode)

    def _reach(self, path: str, *, make: bool) -> int:
        if ".." not in path and path.startswith("/"):
            # Mostly there are no links on the way, and then there is nothing to resolve.
            with suppress(OSError):
                return self._enter(path, make=make)
        return self._enter(os.path.realpath(path), make=make)

    def _enter(self, real: str, *, make: bool) -> int:
        """Walk to a path without links and `..` from the root that holds it."""
        root = self._root_of(real)
        parts = [part for part in real[len(root) :].split("/") if part]
        if len(parts) > _MOST_PARTS:
            raise OSError(errno.ENAMETOOLONG, f"more than {_MOST_PARTS} folders deep")
        descriptor = os.open(root, _FOLDER)
        for part in parts:
            outer = descriptor
            try:
                descriptor = _step(outer, part, make=make)
            finally:
                os.close(outer)
        return descriptor

    def _root_of(self, real: str) -> str:
        if not self._paths:
            return "/"
        for root in self._paths:
            if real == root or real.startswith(root.rstrip("/") + "/"):
                return root
        allowed = ":".join(self._paths)
        raise PermissionError(errno.EACCES, f"it is {real!r}, outside of OMI_DATA_ROOTS={allowed}")


def check_replaceable(folder: Folder, name: str) -> bool:
    """Whether there is a file of that name, which may be replaced.

    Raises:
        OSError: what is there is no regular file.
    """
    try:
        mode = os.stat(
            folder.prefix + name, dir_fd=folder.descriptor, follow_symlinks=False
        ).st_mode
    except FileNotFoundError:
        return False
    if not stat.S_ISREG(mode):
        raise _not_a_file(mode)
    return True


def _step(folder: int, name: str, *, make: bool) -> int:
    try:
        return os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)
    except FileNotFoundError:
        if not make:
            raise
    with suppress(FileExistsError):  # another job may make it too
        os.mkdir(name, dir_fd=folder)
    return os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)


def _open_regular(folder: Folder, name: str, mode: int) -> tuple[int, int]:
    if not stat.S_ISREG(mode):
        raise _not_a_file(mode)
    descriptor = os.open(folder.prefix + name, _FILE, dir_fd=folder.descriptor)
    opened = os.fstat(descriptor)
    if not stat.S_ISREG(opened.st_mode):  # it has been swapped since it was looked at
        os.close(descriptor)
        raise _not_a_file(opened.st_mode)
    return descriptor, opened.st_size


def _not_a_file(mode: int) -> OSError:
    kind = _KINDS.get(stat.S_IFMT(mode), "something else")
    return OSError(errno.EINVAL, f"it is {kind}, not a file")
