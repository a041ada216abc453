"""A process of its own that runs one program for `shell` and ends all that came of it.

Started as a script, on the standard library alone, with the number of a socket to its worker. The
worker sends one JSON line, the order, and then nothing: when the socket ends, because the worker
let go of it or died, everything is killed. The answers are JSON lines: `started`, then `exit_code`,
or `failed`.
"""

import contextlib
import ctypes
import json
import os
import resource
import select
import signal
import sys
import time
from typing import Any

MAX_ORDER = 4 * 1024 * 1024  # bytes; above what the kernel takes for argv and environment
KILLING_S = 5.0  # after this, what cannot be killed is left to the kernel
MAX_REAPED = 1_000  # at once, so that who lets go is heard between
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h
RLIMITS = {
    "cpu_s": resource.RLIMIT_CPU,
    "memory": resource.RLIMIT_AS,
    "file_size": resource.RLIMIT_FSIZE,
    "processes": resource.RLIMIT_NPROC,
    "open_files": resource.RLIMIT_NOFILE,
}


def main() -> None:
    """Take the order, run the program, kill what it leaves behind, tell how it ended."""
    channel = int(sys.argv[1])
    os.set_inheritable(channel, False)
    order = _order(channel)
    if order is None:
        return
    _control(PR_SET_CHILD_SUBREAPER, 1)  # what its descendants leave behind becomes ours
    awake = _wake_on_signals()
    child = _start(order, channel)
    if child is None:
        return
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in (1, 2):  # the readers see the end as soon as the program's own copies are closed
        os.dup2(nowhere, number)
    _tell(channel, started=child)
    ended = _wait(child, awake, channel, until=None)
    if not ended:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child, signal.SIGTERM)
        _wait(child, awake, None, until=time.monotonic() + order["grace_s"])
    status = _kill_all(child)
    if status is not None:
        _tell(channel, exit_code=os.waitstatus_to_exitcode(status))


def _order(channel: int) -> dict[str, Any] | None:
    """Return what the worker asks for; None when it let go before it had asked."""
    data = b""
    while not data.endswith(b"\n"):
        piece = os.read(channel, 65_536)
        if not piece or len(data) > MAX_ORDER:
            return None
        data += piece
    order: dict[str, Any] = json.loads(data)
    return order


def _tell(channel: int, **said: Any) -> None:
    with contextlib.suppress(OSError):  # nobody listens any more
        os.write(channel, json.dumps(said).encode() + b"\n")


def _control(option: int, value: int) -> None:
    """Call prctl where there is one; elsewhere only the process group is killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _wake_on_signals() -> int:
    awake, waker = os.pipe()
    os.set_blocking(awake, False)
    os.set_blocking(waker, False)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    return awake


def _start(order: dict[str, Any], channel: int) -> int | None:
    """Start the program; None when that failed, which is then told."""
    heard, wrong = os.pipe()
    parent = os.getpid()
    try:
        child = os.fork()
    except OSError as exc:
        _tell(channel, failed=str(exc), errno=exc.errno)
        return None
    if child == 0:
        try:
            _become(order, parent)
        except BaseException as exc:  # noqa: BLE001 - nothing of this copy may go on
            number = exc.errno if isinstance(exc, OSError) else None
            os.write(wrong, json.dumps({"failed": str(exc), "errno": number}).encode())
        finally:
            os._exit(127)
    os.close(wrong)
    said = b""
    while piece := os.read(heard, 4_096):
        said += piece
    os.close(heard)
    if not said:
        return child
    os.waitpid(child, 0)
    _tell(channel, **json.loads(said))
    return None


def _become(order: dict[str, Any], parent: int) -> None:
    """Turn this copy of the supervisor into the program; returns only by raising."""
    os.setsid()
    _control(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(127)  # the supervisor died before it could be watched
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)  # Python ignores the first two
    if order["folder"] is not None:
        os.fchdir(order["folder"])
        os.close(order["folder"])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for name, value in order["limits"].items():
        _, hard = resource.getrlimit(RLIMITS[name])
        most = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(RLIMITS[name], (most, most))
    os.execve(order["argv"][0], order["shown"], order["env"])


def _wait(child: int, awake: int, channel: int | None, *, until: float | None) -> bool:
    """Wait for the child to end, and return whether it did: not when the worker let go first.

    The ended child is not reaped yet: until then its number belongs to its group alone.
    """
    poll = select.poll()
    poll.register(awake, select.POLLIN)
    if channel is not None:
        poll.register(channel, select.POLLIN)
    while True:
        ended, more = _reap_others(child)
        if ended:
            return True
        left = None if until is None else max(0.0, until - time.monotonic())
        ready = poll.poll(0 if more else None if left is None else left * 1_000)
        if left is not None and (left == 0 or not (ready or more)):
            return False
        if channel is not None and any(number == channel for number, _ in ready):
            return False
        with contextlib.suppress(BlockingIOError):
            os.read(awake, 4_096)


def _reap_others(child: int) -> tuple[bool, bool]:
    """Return whether the child has ended, and if not, whether others may have; these are reaped.

    What its descendants leave behind comes to us when it ends: a program that leaves many behind
    would else fill the machine with them for as long as it runs.
    """
    for _ in range(MAX_REAPED):
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if found is None or found.si_pid == child:
            return found is not None, False
        os.waitpid(found.si_pid, os.WNOHANG)
    return False, True


def _kill_all(child: int) -> int | None:
    """Kill the group, then whoever else has come to be ours; return the child's status."""
    status = None
    until = time.monotonic() + KILLING_S
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)
    while time.monotonic() < until:
        for pid in _children():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        try:
            for _ in range(MAX_REAPED):  # before the next look at who is left
                pid, found = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    time.sleep(0.0005)
                    break
                status = found if pid == child else status
        except ChildProcessError:
            break
    return status


def _children() -> list[int]:
    """Return our children, where the system tells them; those of the group are killed anyway."""
    own = os.getpid()
    with contextlib.suppress(OSError), open(f"/proc/{own}/task/{own}/children") as told:
        return [int(word) for word in told.read().split()]
    return []


if __name__ == "__main__":
    main()
