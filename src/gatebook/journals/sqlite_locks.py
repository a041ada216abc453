"""Which workers are alive: one locked file per owner, and a watch on leases that do not move.

A worker holds an operating-system lock for life, so a free lock proves that it is dead and its
runs can be claimed at once. A held lock proves nothing about progress: then the lease must lapse.
"""

import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from gatebook.errors import ConfigError
from gatebook.kernel.codec import digest

PROBE_S = 0.2  # another process looks at a lock for microseconds; longer means an owner has it


class OwnerLocks:
    """The owners of one journal object, and the question whether others still live.

    Args:
        folder: `<store>.locks`; made on first use, mode 0700. A file in it names its process.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: dict[str, int] = {}

    def _path(self, owner: str) -> Path:
        return self._folder / digest(owner)[:40]

    def hold(self, owner: str) -> None:
        """Take an owner's lock for the rest of this journal's life; safe to repeat.

        Raises:
            ConfigError: E_OWNER_DUPLICATE when somebody else holds it.
        """
        if owner in self._held:
            return
        deadline = time.monotonic() + PROBE_S
        while (fd := self._take(owner)) is None:
            if time.monotonic() > deadline:
                raise ConfigError("E_OWNER_DUPLICATE", owner=owner)
            time.sleep(0.005)
        os.ftruncate(fd, 0)
        os.write(fd, b"%d\n" % os.getpid())
        self._held[owner] = fd

    def _take(self, owner: str) -> int | None:
        path = self._path(owner)
        self._folder.mkdir(mode=0o700, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with suppress(OSError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.stat(path).st_ino == os.fstat(fd).st_ino:  # nobody has swept it meanwhile
                return fd
        os.close(fd)
        return None

    def gone(self, owner: str) -> bool:
        """Whether no process holds this owner's lock; its file is swept away then."""
        if owner in self._held:
            return False
        path = self._path(owner)
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return True
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        else:
            with suppress(FileNotFoundError):
                os.unlink(path)
            return True
        finally:
            os.close(fd)

    def others(self) -> list[int]:
        """Return the processes of the other owners' files, for a message to people."""
        pids = []
        with suppress(OSError):
            for path in self._folder.iterdir():
                with suppress(OSError, ValueError):
                    pids.append(int(path.read_text()))
        return sorted(set(pids) - {os.getpid()})

    @property
    def owners(self) -> list[str]:
        """The owners whose locks this journal holds."""
        return list(self._held)

    def release(self) -> None:
        """Give all locks back and remove their files, and the folder when it is empty."""
        for owner, fd in self._held.items():
            with suppress(OSError):  # a file that stays behind holds no lock
                os.unlink(self._path(owner))
            os.close(fd)
        self._held.clear()
        with suppress(OSError):
            self._folder.rmdir()


Hold = tuple[str, int, int]  # owner, epoch, lease_until: a renewal changes the last


class Watch:
    """How long each held run has been seen unchanged, on this process's monotonic clock.

    The other process's wall clock may be wrong; a lease of a living holder is taken over only
    when it has also not moved for a whole TTL by the observer's own clock.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._seen: dict[int, tuple[Hold, float]] = {}
        self._lock = threading.Lock()

    def unchanged_s(self, run: int, hold: Hold) -> float:
        """Note what is seen now; return for how many seconds it has been the same."""
        with self._lock:
            return self._note(run, hold)

    def _note(self, run: int, hold: Hold) -> float:
        now = self._monotonic()
        before = self._seen.get(run)
        if before is None or before[0] != hold:
            self._seen[run] = (hold, now)
            return 0.0
        return now - before[1]

    def look(self, held: Iterable[tuple[int, Hold]]) -> None:
        """Note every run that is held now and forget all others."""
        with self._lock:
            now = dict(held)
            for run, hold in now.items():
                self._note(run, hold)
            self._seen = {run: seen for run, seen in self._seen.items() if run in now}
