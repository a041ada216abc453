"""A disk that fails and forgets on purpose: an SQLite VFS over the real one.

It counts writes and syncs, fails those it is told to, and remembers of each file only what was
synced, so that a test can cut the power and look at what a machine would find.
"""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import apsw

Fault = Literal["", "io", "full"]
Plan = Callable[[str, str, int], Fault]  # (operation, file name, number of the operation)

_names = itertools.count()


def healthy(operation: str, name: str, number: int) -> Fault:
    """Fail nothing."""
    return ""


class Disk(apsw.VFS):
    """Registers itself under `vfs`; pass that name to a journal.

    Attributes:
        plan: asked before each write and sync what should become of it.
        operations: how many writes and syncs there were, which numbers the next one.
        syncs: how many syncs reached a file.
        synced: by path, what of each file would survive a power loss.
    """

    def __init__(self) -> None:
        self.vfs = f"disk-{next(_names)}"
        self.plan: Plan = healthy
        self.operations = 0
        self.syncs = 0
        self.synced: dict[str, bytes] = {}
        super().__init__(self.vfs, "unix")

    def xOpen(self, name: Any, flags: list[int]) -> "DiskFile":  # noqa: N802
        return DiskFile(self, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        super().xDelete(filename, syncdir)
        self.synced.pop(filename, None)

    def cut_power(self, store: Path, into: Path) -> Path:
        """Write what was synced of a store into another folder; return the store there."""
        into.mkdir()
        for path, content in self.synced.items():
            (into / Path(path).name).write_bytes(content)
        return into / store.name

    def ask(self, operation: str, name: str) -> None:
        self.operations += 1
        fault = self.plan(operation, name, self.operations)
        if fault:
            raise _error(operation, fault)


class DiskFile(apsw.VFSFile):
    def __init__(self, disk: Disk, name: Any, flags: list[int]) -> None:
        self._disk = disk
        self._path = name.filename() if isinstance(name, apsw.URIFilename) else str(name)
        super().__init__("unix", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        self._disk.ask("write", Path(self._path).name)
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:  # noqa: N802
        self._disk.ask("sync", Path(self._path).name)
        super().xSync(flags)
        self._disk.syncs += 1
        size = self.xFileSize()
        self._disk.synced[self._path] = bytes(self.xRead(size, 0)) if size else b""


def _error(operation: str, fault: Fault) -> apsw.Error:
    if fault == "full":
        return apsw.FullError("no space left")
    error = apsw.IOError("injected")
    codes = {"write": apsw.SQLITE_IOERR_WRITE, "sync": apsw.SQLITE_IOERR_FSYNC}
    error.extendedresult = codes[operation]  # type: ignore[attr-defined]
    return error
