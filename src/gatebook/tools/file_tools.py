"""`files(root)`: tools that read, list and, if asked for, write files below one folder.

Knows paths and bytes; how nothing leads out of the folder stands in `beneath`.
"""

import base64
import codecs
import contextlib
import hashlib
import heapq
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from gatebook.errors import Permanent, ToolRetry
from gatebook.kernel.codec import MAX_PAYLOAD, digest
from gatebook.tools.beneath import (
    OURS,
    FilePath,
    FolderPath,
    kind,
    opened_file,
    opened_folder,
    parts,
    refused,
    unusable,
)
from gatebook.tools.context import ToolContext
from gatebook.tools.function import FunctionTool, tool
from gatebook.tools.options import refused as undeclarable

MAX_BYTES = 64 * 1024  # of one answer; a model reads on with offset=
MAX_ENTRIES = 1_000
MAX_TIMES = 6  # a control character takes six bytes in JSON: backslash, u, four digits
ROOM = 16 * 1024  # for what an answer says besides the text
PIECE = 64 * 1024
MAX_OFFSET = 2**62  # so that what is read from there has places that a system can number


@dataclass(frozen=True)
class FileText:
    """Part of a file.

    Attributes:
        encoding: how `text` holds the bytes: `utf-8`, or `base64` for what is no text.
        size: bytes of the whole file.
        next: the offset to read on at; None at the end.
    """

    path: str
    text: str
    encoding: Literal["utf-8", "base64"]
    size: int
    next: int | None


@dataclass(frozen=True)
class Entry:
    """One name in a folder; `size` in bytes, of files only."""

    name: str
    kind: str
    size: int | None


@dataclass(frozen=True)
class Listing:
    """The names in a folder, in order; `truncated`: there are more."""

    path: str
    entries: list[Entry]
    truncated: bool


@dataclass(frozen=True)
class Written:
    """What was written; `digest` is the sha256 of the file's bytes."""

    path: str
    size: int
    digest: str


def files(
    root: str | os.PathLike[str],
    *,
    write: bool = False,
    max_bytes: int = MAX_BYTES,
    max_entries: int = MAX_ENTRIES,
    returns: Iterable[str] = (),
    prefix: str = "fs",
) -> tuple[FunctionTool[..., Any], ...]:
    """Return tools for the files below `root`: `fs.read`, `fs.list` and with `write` `fs.write`.

    Paths are relative to `root`; links are never followed, and only regular files are opened.
    Reading and listing are `read`; writing replaces a whole file at once and is `idempotent`.

    Args:
        root: the folder; it need not be there yet. Whoever can replace it chooses the files.
        write: also offer writing.
        max_bytes: of one answer and of one file that is written.
        max_entries: names of one listing.
        returns: labels of what is read: {"private"}, {"untrusted"}.
        prefix: what the names of the tools begin with, before a dot.

    Raises:
        ConfigError: E_TOOL_DECLARATION: a limit or the root is not allowed.
    """
    folder = os.path.abspath(root)  # a later chdir of the process changes nothing
    if not 1 <= max_bytes <= MAX_PAYLOAD // (2 * MAX_TIMES):
        fix = f"give bytes from 1 to {MAX_PAYLOAD // (2 * MAX_TIMES)}"
        raise undeclarable(prefix, f"max_bytes={max_bytes} is not allowed", fix)
    if not 1 <= max_entries <= 10 * MAX_ENTRIES:
        fix = f"give a number from 1 to {10 * MAX_ENTRIES}"
        raise undeclarable(prefix, f"max_entries={max_entries} is not allowed", fix)
    whole = max_bytes * MAX_TIMES + ROOM  # a model reads on by offset, so nothing is cut
    reads = tool(name=f"{prefix}.read", effect="read", max_output=whole, returns=returns)
    lists = tool(name=f"{prefix}.list", effect="read", returns=returns)
    writes = tool(name=f"{prefix}.write", effect="idempotent")
    made = (reads(_reader(folder, max_bytes)), lists(_lister(folder, max_entries)))
    return (*made, writes(_writer(folder, max_bytes))) if write else made


def _reader(root: str, limit: int) -> Callable[..., FileText]:
    def read(path: FilePath, offset: int = 0) -> FileText:
        """Read a file, or the part of it that begins at an offset.

        Args:
            path: relative to the folder, for example notes/today.md
            offset: where to begin, in bytes; use `next` of the answer before
        """
        if not 0 <= offset <= MAX_OFFSET:
            raise ToolRetry(f"offset must be from 0 to {MAX_OFFSET}")
        *above, name = _named(path)
        with opened_folder(root, above) as folder, opened_file(folder, name, path) as file:
            size = os.fstat(file).st_size
            data = _pread(file, limit + 1, offset)
        return _text(path, data, limit=limit, offset=offset, size=size)

    return read


def _lister(root: str, limit: int) -> Callable[..., Listing]:
    def list_folder(path: FolderPath = ".") -> Listing:
        """List the files and folders of one folder.

        Args:
            path: relative to the folder; . for all of it
        """
        with opened_folder(root, parts(path)) as folder, os.scandir(folder) as found:
            whole = (entry.name for entry in found if not entry.name.startswith(OURS))
            names = heapq.nsmallest(limit + 1, whole)
            entries = [_entry(folder, name) for name in names[:limit]]
        return Listing(path, entries, len(names) > limit)

    return list_folder


def _writer(root: str, limit: int) -> Callable[..., Written]:
    def write(ctx: ToolContext, path: FilePath, text: str, overwrite: bool = False) -> Written:
        """Write a whole file; folders on the way are created.

        Args:
            path: relative to the folder, for example notes/today.md
            text: all that the file will hold
            overwrite: replace a file that is there already
        """
        *above, name = _named(path)
        data = text.encode()
        if len(data) > limit:
            raise Permanent(code="E_FILE", value=path, detail=f"more than {limit} bytes")
        with opened_folder(root, above, make=True) as folder:
            mode = _mode_of_target(folder, name, path)
            try:
                with _draft(folder, data, ctx, mode) as draft:
                    if ctx.cancelled:
                        raise Permanent(code="E_FILE", value=path, detail="too late, not written")
                    _place(folder, draft, name, data=data if not overwrite else None)
                os.fsync(folder)
            except FileExistsError:
                raise ToolRetry(f"{path} is there already: pass overwrite=true") from None
        return Written(path, len(data), hashlib.sha256(data).hexdigest())

    return write


def _named(path: str) -> list[str]:
    names = parts(path)
    if not names or path.endswith("/"):
        raise refused(path, "it names no file")
    return names


def _pread(file: int, size: int, offset: int) -> bytes:
    pieces = []
    while size > 0 and (piece := os.pread(file, min(size, PIECE), offset)):
        pieces.append(piece)
        size -= len(piece)
        offset += len(piece)
    return b"".join(pieces)


def _text(path: str, data: bytes, *, limit: int, offset: int, size: int) -> FileText:
    """Return the answer; a cut never splits a character of UTF-8."""
    part = data[:limit]
    more = len(data) > limit
    encoding: Literal["utf-8", "base64"] = "utf-8"
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(part, final=not more)
        whole = len(text.encode())
    except UnicodeDecodeError:
        text, whole = "", 0
    if part and not whole:
        text, whole, encoding = base64.b64encode(part).decode(), len(part), "base64"
    following = offset + whole if more else None
    return FileText(path, text, encoding, max(size, offset + len(data) if data else 0), following)


def _entry(folder: int, name: str) -> Entry:
    shown = os.fsencode(name).decode("utf-8", "replace")
    try:
        facts = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return Entry(shown, "gone", None)
    found = kind(facts)
    return Entry(shown, found, facts.st_size if found == "file" else None)


def _mode_of_target(folder: int, name: str, path: str) -> int | None:
    """Return the permissions of the file that is to be replaced, None when there is none."""
    try:
        facts = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise unusable(path, exc) from exc
    found = kind(facts)
    if found != "file":
        raise refused(path, f"it is a {found}")
    return facts.st_mode & 0o777


@contextlib.contextmanager
def _draft(folder: int, data: bytes, ctx: ToolContext, mode: int | None) -> Iterator[str]:
    """Write the bytes to a synced file beside the target and give its name; remove it at the end.

    The name follows from the key, so that a later attempt removes what a killed one left. Its
    mode is set by its descriptor: a link that somebody puts in its place is not followed.
    """
    key = digest(ctx.idempotency_key)[:20]
    for attempt in range(ctx.attempt + 1):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{OURS}{key}-{attempt}", dir_fd=folder)
    name = f"{OURS}{key}-{ctx.attempt}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        file = os.open(name, flags, 0o666, dir_fd=folder)
    except OSError as exc:
        raise unusable(name, exc) from exc
    try:
        with open(file, "wb") as out:
            out.write(data)
            out.flush()
            if mode is not None:
                os.fchmod(out.fileno(), mode)
            os.fsync(out.fileno())
        yield name
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder)


def _place(folder: int, draft: str, name: str, *, data: bytes | None) -> None:
    """Give the draft its name: in place of what is there, or, with `data`, only of the same.

    Raises:
        FileExistsError: there is a file with other bytes.
    """
    if data is None:
        os.replace(draft, name, src_dir_fd=folder, dst_dir_fd=folder)
        return
    try:
        os.link(draft, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
    except FileExistsError:
        with opened_file(folder, name, name) as file:
            if _pread(file, len(data) + 1, 0) != data:
                raise
