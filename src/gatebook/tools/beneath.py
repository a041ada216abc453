"""Opening what lies below a folder, one name at a time, so that nothing leads out of it.

Every step is an open relative to the descriptor of the step before and follows no link, so there
is no path to check first and follow later. Knows nothing of tools or runs.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from gatebook.errors import Permanent

MAX_PATH = 4_096  # bytes: PATH_MAX of Linux, limits.h
MAX_NAME = 255  # bytes: NAME_MAX of Linux, limits.h
MAX_PARTS = 64
OURS = ".gatebook-"  # begins the names of unfinished files

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_LINK = (errno.ELOOP, errno.EMLINK)  # O_NOFOLLOW met a link: Linux, BSD

KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "folder",
    stat.S_IFLNK: "link",
    stat.S_IFIFO: "pipe",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}


def parts(path: str) -> list[str]:
    """Return the names a relative path goes through; empty for the folder itself.

    Raises:
        Permanent: E_PATH: it is absolute, goes up, or has a character no name should have.
    """
    detail = ""
    names = [name for name in path.split("/") if name not in ("", ".")]
    if path.startswith("/"):
        detail = "it is absolute"
    elif ".." in names:
        detail = "it goes up"
    elif not path.isprintable():
        detail = "it has a character that cannot be shown"
    elif len(path.encode("utf-8", "replace")) > MAX_PATH or len(names) > MAX_PARTS:
        detail = "it is too long"
    elif any(len(name.encode("utf-8", "replace")) > MAX_NAME for name in names):
        detail = f"a name in it has more than {MAX_NAME} bytes"
    elif any(name.startswith(OURS) for name in names):
        detail = f"names that begin with {OURS} are files being written"
    if detail:
        raise refused(path, detail)
    return names


def plain_folder(path: str) -> str:
    """Return the one spelling of a path below a folder; what is refused anyway stays as it is."""
    names = [name for name in path.split("/") if name not in ("", ".")]
    return path if path.startswith("/") or ".." in names else "/".join(names) or "."


def plain_file(path: str) -> str:
    """Return the same of a file's path; a slash at the end, which no file has, stays."""
    found = plain_folder(path)
    return f"{found}/" if path.endswith(("/", "/.")) and not found.endswith("/") else found


@dataclass(frozen=True)
class _Spelt:
    """Has a tool's argument put into its one spelling, before anything is decided about it."""

    spell: Callable[[str], str]

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """Return how pydantic reads it; imported here, since that happens at a tool's first use."""
        from pydantic_core import core_schema

        return core_schema.no_info_after_validator_function(self.spell, handler(source))


# What rules see is what is opened: a deny of `.env` must not be passed by `./.env`.
FolderPath = Annotated[str, _Spelt(plain_folder)]
FilePath = Annotated[str, _Spelt(plain_file)]


@contextlib.contextmanager
def opened_folder(root: str, names: Sequence[str], *, make: bool = False) -> Iterator[int]:
    """Give a descriptor of the folder at `names` below `root`; `make` creates what is missing.

    Raises:
        Permanent: E_PATH for a link on the way, E_FILE when it is not there or is no folder.
    """
    path = "/".join(names) or "."
    try:
        folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as exc:
        raise unusable(".", exc) from exc
    try:
        for name in names:
            below = _step(folder, name, path, make=make)
            os.close(folder)
            folder = below
        yield folder
    finally:
        os.close(folder)


def _step(folder: int, name: str, path: str, *, make: bool) -> int:
    if make:
        with contextlib.suppress(FileExistsError):
            try:
                os.mkdir(name, dir_fd=folder)
            except FileExistsError:
                raise
            except OSError as exc:
                raise unusable(path, exc) from exc
    try:
        return os.open(name, _FOLDER, dir_fd=folder)
    except OSError as exc:
        if kind_at(folder, name) == "link":
            raise refused(path, f"{name} is a link") from exc
        raise unusable(path, exc) from exc


@contextlib.contextmanager
def opened_file(folder: int, name: str, path: str) -> Iterator[int]:
    """Give a descriptor of a regular file for reading; `path` is what errors say.

    Looked at before it is opened, because opening a device may act, and once more after it.

    Raises:
        Permanent: E_PATH for links, pipes, sockets and devices; E_FILE when it is not there.
    """
    _check_regular(kind_at(folder, name), path)
    try:
        file = os.open(name, _FILE, dir_fd=folder)
    except OSError as exc:
        if exc.errno in _LINK:
            raise refused(path, "it is a link") from exc
        raise unusable(path, exc) from exc
    try:
        _check_regular(kind(os.fstat(file)), path)
        yield file
    finally:
        os.close(file)


def _check_regular(found: str, path: str) -> None:
    if found not in ("file", ""):  # "": opening it says why it cannot be looked at
        raise refused(path, f"it is a {found}")


def kind(facts: os.stat_result) -> str:
    """Return what a file is, in one word."""
    return KINDS.get(stat.S_IFMT(facts.st_mode), "device")


def kind_at(folder: int, name: str) -> str:
    """Return what stands at a name, "" when that cannot be told; follows no link."""
    try:
        return kind(os.stat(name, dir_fd=folder, follow_symlinks=False))
    except (OSError, ValueError):
        return ""


def refused(path: str, detail: str) -> Permanent:
    """Return the error for a path that may not be used. Nothing happened."""
    return Permanent(code="E_PATH", value=path, detail=detail)


def unusable(path: str, exc: OSError) -> Permanent:
    """Return the error for a path the system refused. Nothing happened."""
    return Permanent(code="E_FILE", value=path, detail=exc.strerror or type(exc).__name__)
