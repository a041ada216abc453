"""Opening a SQLite store: is the place safe, is the file ours, and is SQLite itself sound.

Never opens the database file other than through SQLite: closing any descriptor of it would drop
the locks this process holds on it (sqlite.org/howtocorrupt.html, 2.2).
"""

import os
import re
import shutil
import stat
import sys
import time
from contextlib import suppress
from importlib.resources import files
from pathlib import Path

import apsw

from gatebook.errors import (
    ConfigError,
    GatebookError,
    InvalidInput,
    JournalCorrupt,
    StoreError,
    shown,
)
from gatebook.journals.sqlite_locks import OwnerLocks

SCHEMA = 5  # the last of sql/schema_N.sql
APPLICATION_ID = 0x6761_7465  # "gate"
SOUND = (3, 51, 3)  # the first release without the WAL-reset bug; sqlite.org/wal.html
NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs"})
INDEX_BYTES = 32_768  # by which SQLite lengthens the -shm file; a full disk there is an I/O error
WRITE_LOCK_BYTE = 120  # where WAL's write lock lies in the -shm file; sqlite.org/walformat.html


def check_sqlite(version: str) -> None:
    """Refuse a SQLite that can corrupt a WAL store with two connections."""
    if tuple(int(part) for part in version.split(".")[:3]) < SOUND:
        raise ConfigError("E_SQLITE_WAL_RESET", got=version)


def check_place(path: Path, *, mounts: str | None = None) -> None:
    """Make the store's folder if need be, and refuse a place that is unsafe or not writable.

    `mounts` is the system's table of mounts unless given.
    """
    folder = path.parent
    _make(folder)
    filesystem = network_filesystem(folder, mounts)
    if filesystem is not None:
        raise ConfigError("E_STORE_NETFS", store=str(path), detail=filesystem)
    check_kind(path)
    for place in (folder, path):
        if not place.exists():
            continue
        mode = place.stat().st_mode
        sticky = stat.S_ISDIR(mode) and mode & stat.S_ISVTX
        if mode & stat.S_IWOTH and not sticky:
            raise ConfigError(
                "E_STORE_PERMS", store=str(place), detail=oct(stat.S_IMODE(mode)),
                command=f"chmod o-w {place}",
            )  # fmt: skip
        if not os.access(place, os.W_OK):
            raise ConfigError("E_STORE_READONLY", store=str(path))


def check_kind(path: Path) -> None:
    """Refuse what is there and is no file: to open a pipe may wait for ever.

    Raises:
        ConfigError: E_STORE_FORMAT.
    """
    if path.is_dir():
        raise ConfigError("E_STORE_FORMAT", store=str(path), detail="it is a folder")
    if path.exists() and not path.is_file():
        raise ConfigError("E_STORE_FORMAT", store=str(path), detail="it is no file")


def _make(folder: Path) -> None:
    if folder.exists():
        return
    _make(folder.parent)
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except PermissionError as exc:
        raise ConfigError("E_STORE_READONLY", store=str(folder)) from exc
    except OSError as exc:
        raise ConfigError("E_STORE_IO", store=str(folder), detail=str(exc.strerror)) from exc


def network_filesystem(folder: Path, mounts: str | None = None) -> str | None:
    """Return the type of network filesystem a folder lies on, None for a local one.

    Knows Linux; elsewhere every place counts as local.
    """
    if mounts is None:
        try:
            mounts = Path("/proc/self/mounts").read_text(errors="replace")
        except OSError:
            return None
    found, longest = "", -1
    place = folder.resolve()
    for line in mounts.splitlines():
        fields = line.split(" ")
        point = re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), fields[1])
        if len(point) >= longest and place.is_relative_to(point):
            found, longest = fields[2], len(point)
    return found if found in NETWORK else None


def _use_wal(connection: apsw.Connection, busy_s: float) -> None:
    """Switch to WAL. Several processes may try at once, and SQLite does not wait for them here."""
    deadline = time.monotonic() + busy_s
    while True:
        try:
            mode = connection.execute("PRAGMA journal_mode").get
            if mode != "wal":
                mode = connection.execute("PRAGMA journal_mode=WAL").get
        except apsw.BusyError:
            if time.monotonic() > deadline:
                raise
        else:
            if mode == "wal" or time.monotonic() > deadline:
                return
        time.sleep(0.005)


def _schema(connection: apsw.Connection, path: Path) -> int:
    """Return the schema of the store in a file, 0 when there is nothing in it yet.

    Raises:
        ConfigError: E_STORE_FORMAT, E_SCHEMA_NEWER, E_SCHEMA_OLD.
    """
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").get
    application = connection.execute("PRAGMA application_id").get
    if application != APPLICATION_ID and tables:
        detail = "it is another program's database"
        raise ConfigError("E_STORE_FORMAT", store=str(path), detail=detail)
    if not tables:
        return 0
    value = str(connection.execute("SELECT value FROM meta WHERE name = 'schema'").get or 0)
    if not re.fullmatch("[0-9]{1,9}", value):
        detail = f"its schema is {shown(value)}"
        raise ConfigError("E_STORE_FORMAT", store=str(path), detail=detail)
    got = int(value)
    if not 1 <= got <= SCHEMA:
        code = "E_SCHEMA_NEWER" if got > SCHEMA else "E_SCHEMA_OLD"
        raise ConfigError(code, store=str(path), got=got, want=str(SCHEMA))
    return got


def _use_schema(connection: apsw.Connection, path: Path) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        got = _schema(connection, path)
        for number in range(got + 1, SCHEMA + 1):
            _upgrade(connection, number)
        connection.execute("COMMIT")
    finally:
        if not connection.get_autocommit():
            connection.execute("ROLLBACK")


def _upgrade(connection: apsw.Connection, number: int) -> None:
    script = files("gatebook.journals").joinpath(f"sql/schema_{number}.sql")
    connection.execute(script.read_text(encoding="utf-8"))
    connection.execute(
        "INSERT OR REPLACE INTO meta (name, value) VALUES ('schema', ?)", (str(number),)
    )
    connection.execute(f"PRAGMA application_id={APPLICATION_ID}")


def _is_full(exc: apsw.Error, folder: Path) -> bool:
    """Whether an error says, or with no space left means, that the disk is full."""
    if isinstance(exc, apsw.FullError):
        return True
    try:
        return shutil.disk_usage(folder).free < INDEX_BYTES
    except OSError:
        return False


def _lock_holder(path: Path, locks: OwnerLocks) -> str:
    """Name the process that holds the write lock, as far as the system tells."""
    pids: list[int] = []
    if sys.platform == "linux":
        with suppress(OSError):
            inode = f":{Path(f'{path}-shm').stat().st_ino}"
            for line in Path("/proc/locks").read_text().splitlines():
                fields = line.split()
                if fields[-3].endswith(inode) and fields[-2] == str(WRITE_LOCK_BYTE):
                    pids.append(int(fields[-4]))
    pids = [pid for pid in pids if pid > 0] or locks.others()
    if not pids:
        return "another process"
    return "process " + " or ".join(str(pid) for pid in pids)


def _identity(path: Path) -> tuple[int, int] | None:
    """Return what tells a file from every other that is there now, None when there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


class Store:
    """One database file and how connections to it are opened; each thread has its own.

    Args:
        path: absolute.
        busy_s: how long to wait for another process's lock, seconds.
        vfs: name of a registered SQLite VFS, "" for the system's.
        locks: whose files name processes when a lock wait ends.
    """

    def __init__(self, path: Path, *, busy_s: float, vfs: str, locks: OwnerLocks) -> None:
        self.path = path
        self._busy_s = busy_s
        self._vfs = vfs
        self._locks = locks
        self._file: tuple[int, int] | None = None  # device and inode, once it is open

    def open(self) -> apsw.Connection:
        """Return the writer's connection to a store that is checked, or made when there is none.

        Raises:
            ConfigError: see `check_sqlite`, `check_place`; E_STORE_FORMAT, E_SCHEMA_NEWER or
                E_SCHEMA_OLD for what is in the file.
            apsw.Error: as SQLite says it.
        """
        check_sqlite(apsw.sqlite_lib_version())
        check_place(self.path)
        try:
            connection = self._prepare(fresh=not self.path.exists())
        except apsw.NotADBError as exc:
            detail = "it is no database"
            raise ConfigError("E_STORE_FORMAT", store=str(self.path), detail=detail) from exc
        self._file = _identity(self.path)
        return connection

    def check_same(self) -> None:
        """Refuse to go on once another file, or none, stands where this store was opened.

        SQLite would go on with the file it has: what is acknowledged there nobody finds again, and
        whoever opens the store next may start the same runs anew.

        Raises:
            StoreError: E_STORE_MOVED.
        """
        if self._file is not None and _identity(self.path) != self._file:
            raise StoreError("E_STORE_MOVED", store=str(self.path))

    def _prepare(self, *, fresh: bool) -> apsw.Connection:
        connection = self.connect()
        try:
            if fresh:
                with suppress(OSError):
                    self.path.chmod(0o600)  # -wal and -shm take their mode from here
            _schema(connection, self.path)  # before anything is changed: WAL would be for good
            _use_wal(connection, self._busy_s)
            _use_schema(connection, self.path)
        except BaseException:
            connection.close(force=True)
            raise
        return connection

    def connect(self, *, reading: bool = False) -> apsw.Connection:
        """Open one more connection. Raises StoreError E_STORE_MOVED as `check_same`."""
        self.check_same()
        flags = apsw.SQLITE_OPEN_READWRITE | (0 if reading else apsw.SQLITE_OPEN_CREATE)
        connection = apsw.Connection(str(self.path), flags=flags, vfs=self._vfs or None)
        try:
            self.be_patient(connection)
            # Else many a statement is planned anew, which costs more than it, for other values.
            connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
            connection.execute("PRAGMA synchronous=FULL")
            if reading:
                connection.execute("PRAGMA query_only=1")
        except BaseException:
            connection.close(force=True)
            raise
        return connection

    def be_patient(self, connection: apsw.Connection) -> None:
        """Make a connection wait for other processes' locks."""
        connection.set_busy_timeout(int(self._busy_s * 1000))

    def explain(self, exc: Exception) -> Exception:
        """Return our error for one of SQLite's, Python's or the system's; it says what is known."""
        if isinstance(exc, UnicodeEncodeError):
            return InvalidInput("E_TEXT_INVALID", path="the name")
        if isinstance(exc, PermissionError):
            return ConfigError("E_STORE_READONLY", store=str(self.path))
        if isinstance(exc, OSError):
            detail = exc.strerror or type(exc).__name__
            return StoreError("E_STORE_IO", store=str(self.path), detail=detail)
        if not isinstance(exc, apsw.Error):
            return exc
        error = self._translate(exc)
        error.__cause__ = exc
        return error

    def _translate(self, exc: apsw.Error) -> GatebookError:
        store = str(self.path)
        match exc:
            case apsw.FullError() | apsw.IOError() if _is_full(exc, self.path.parent):
                return StoreError("E_STORE_FULL", store=store)
            case apsw.BusyError() | apsw.LockedError():
                holder = _lock_holder(self.path, self._locks)
                return StoreError(
                    "E_STORE_BUSY", store=store, limit=f"{self._busy_s:g}", holder=holder
                )
            case apsw.ReadOnlyError():
                return StoreError("E_STORE_READONLY", store=store)
            case apsw.CorruptError() | apsw.NotADBError():
                return JournalCorrupt("E_STORE_CORRUPT", store=store, detail=str(exc))
            case _:
                detail = f"{type(exc).__name__}: {exc}"
                return StoreError("E_STORE_IO", store=store, detail=detail)
