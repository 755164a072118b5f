"""Opening what a request names: inside the roots, and only what is a regular file."""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from omi_runtime.folders import Folder, Roots, check_replaceable


@contextmanager
def opened(roots: Roots, path: str, *, make: bool = False) -> Iterator[Folder]:
    if make:
        roots.make_folder(path)
    with roots.open_folder(path) as folder:
        yield folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with a folder, beside a folder that is outside."""
    (tmp_path / "root" / "inner").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("secret")
    return tmp_path / "root"


def names_in(roots: Roots, path: Path | str, *, make: bool = False) -> set[str]:
    with opened(roots, str(path), make=make) as folder:
        opened_or_not = "" if folder.descriptor is None else f"/proc/self/fd/{folder.descriptor}/"
        return {path.name for path in Path(opened_or_not, folder.prefix + ".").iterdir()}


def test_a_folder_inside_is_opened_by_any_of_its_paths(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "inner" / "file").touch()
    (root / "link").symlink_to("inner")
    (root.parent / "entrance").symlink_to(root)
    roots = Roots([str(root.parent / "entrance")])
    monkeypatch.chdir(root)
    for path in (root / "inner", "inner", root / "inner/../inner/.", root / "link"):
        assert names_in(roots, path) == {"file"}
    assert names_in(roots, root) == {"inner", "link"}


OUTSIDE: dict[str, Callable[[Path], str]] = {
    "another folder": lambda root: str(root.parent / "outside"),
    "the folder around it": lambda root: str(root.parent),
    "the root of all": lambda _root: "/",
    "one that begins like it": lambda root: str(root) + "side",
    "up and out": lambda root: f"{root}/inner/../../outside",
    "a link": lambda root: f"{root}/out",
    "a way through a link": lambda root: f"{root}/out/../outside",
    "a link to a link": lambda root: f"{root}/out2",
}


@pytest.mark.parametrize("make", [False, True])
@pytest.mark.parametrize("where", OUTSIDE)
def test_a_folder_outside_is_refused(where: str, make: bool, root: Path) -> None:
    (root.parent / "rootside").mkdir()
    (root / "out").symlink_to(root.parent / "outside")
    (root / "out2").symlink_to("out")
    before = sorted(root.parent.rglob("*"))
    for path in (OUTSIDE[where](root), OUTSIDE[where](root) + "/new"):
        with pytest.raises(OSError, match=r"outside of OMI_DATA_ROOTS|No such file") as refusal:
            names_in(Roots([str(root)]), path, make=make)
        if make:
            assert "outside of OMI_DATA_ROOTS" in str(refusal.value)
    assert sorted(root.parent.rglob("*")) == before


def test_several_roots(root: Path) -> None:
    roots = Roots([str(root), str(root.parent / "outside")])
    assert names_in(roots, root.parent / "outside") == {"secret"}
    with pytest.raises(PermissionError):
        names_in(roots, root.parent)


@pytest.mark.parametrize("confined", [True, False])
def test_missing_folders_are_made(confined: bool, root: Path) -> None:
    roots = Roots([str(root)] if confined else [])
    assert names_in(roots, root / "a" / "b" / "c", make=True) == set()
    assert (root / "a" / "b" / "c").is_dir()
    with pytest.raises(FileNotFoundError):
        names_in(roots, root / "d")
    with pytest.raises(OSError, match="folders deep"):
        names_in(roots, str(root) + "/x" * 300, make=True)
    assert not (root / "x").exists()


@pytest.mark.parametrize("confined", [True, False])
def test_a_path_that_leads_through_a_missing_folder_and_back(confined: bool, root: Path) -> None:
    roots = Roots([str(root)] if confined else [])
    path = f"{root}/none/../out"
    roots.make_folder(path)
    assert names_in(roots, path) == set()
    assert {found.name for found in root.iterdir()} == {"inner", "out"}


def test_a_folder_that_becomes_a_link_on_the_way_is_not_followed(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve = os.path.realpath

    def resolve_and_swap(path: str) -> str:
        real = resolve(path)
        if (root / "inner").is_dir() and not (root / "inner").is_symlink():
            (root / "inner").rmdir()
            (root / "inner").symlink_to(root.parent / "outside")
        return real

    roots = Roots([str(root)])
    monkeypatch.setattr(os.path, "realpath", resolve_and_swap)
    with pytest.raises(NotADirectoryError):
        names_in(roots, root / "inner" / ".." / "inner")


def read(roots: Roots, folder_path: Path, name: str) -> bytes:
    with opened(roots, str(folder_path)) as folder:
        descriptor, size = roots.open_file(folder, name)
        try:
            data = os.read(descriptor, size + 1)
            assert len(data) == size
            return data
        finally:
            os.close(descriptor)


@pytest.mark.parametrize("confined", [True, False])
def test_a_file_and_links_to_it_are_read(confined: bool, root: Path) -> None:
    (root / "inner" / "file").write_bytes(b"content")
    (root / "link").symlink_to("inner/file")
    (root / "link2").symlink_to(root / "link")
    roots = Roots([str(root)] if confined else [])
    for place, name in ((root / "inner", "file"), (root, "link"), (root, "link2")):
        assert read(roots, place, name) == b"content"


def test_a_link_to_a_file_outside_is_read_only_without_roots(root: Path) -> None:
    (root / "file").symlink_to("../outside/secret")
    (root / "inner" / "file").symlink_to(root / "file")
    for place in (root, root / "inner"):
        assert read(Roots(), place, "file") == b"secret"
        with pytest.raises(PermissionError, match="outside of OMI_DATA_ROOTS"):
            read(Roots([str(root)]), place, "file")


def make_odd(path: Path, kind: str) -> None:
    if kind == "a folder":
        path.mkdir()
    elif kind == "a FIFO":
        os.mkfifo(path)
    elif kind == "a socket":
        with socket.socket(socket.AF_UNIX) as odd:
            odd.bind(str(path))
    else:
        path.symlink_to("/dev/zero")


@pytest.mark.parametrize("kind", ["a folder", "a FIFO", "a socket", "a device"])
def test_what_is_no_file_is_neither_opened_nor_replaced(kind: str, root: Path) -> None:
    make_odd(root / "odd", kind)
    with pytest.raises(OSError, match=f"it is {kind}, not a file"):
        read(Roots(), root, "odd")
    with opened(Roots(), str(root)) as folder:
        what = "a symbolic link" if kind == "a device" else kind
        with pytest.raises(OSError, match=f"it is {what}, not a file"):
            check_replaceable(folder, "odd")


def test_a_file_that_becomes_a_fifo_is_not_waited_for(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "file").touch()
    look = os.stat

    def look_and_swap(*arguments, **options) -> os.stat_result:
        seen = look(*arguments, **options)
        (root / "file").unlink()
        os.mkfifo(root / "file")
        return seen

    with opened(Roots(), str(root)) as folder:
        monkeypatch.setattr(os, "stat", look_and_swap)
        with pytest.raises(OSError, match="it is a FIFO"):
            Roots().open_file(folder, "file")


def test_a_loop_of_links_is_an_error(root: Path) -> None:
    (root / "a").symlink_to("b")
    (root / "b").symlink_to("a")
    for roots in (Roots(), Roots([str(root)])):
        with pytest.raises(OSError):
            names_in(roots, root / "a")
        with pytest.raises(OSError):
            read(roots, root, "a")


def test_no_descriptor_is_left_open(root: Path) -> None:
    (root / "inner" / "file").touch()
    (root / "link").symlink_to("inner/file")
    before = len(list(Path("/proc/self/fd").iterdir()))
    test_a_loop_of_links_is_an_error(root)
    read(Roots([str(root)]), root, "link")
    with pytest.raises(OSError):
        names_in(Roots([str(root)]), root / "inner" / "none" / "x")
    assert len(list(Path("/proc/self/fd").iterdir())) == before
