"""`shell([...])`: a tool that runs listed programs, each as a process group that can be killed.

Never a shell string: what the model writes is a list of arguments. Starting, watching and killing
is `supervise`'s, in a process of its own, so that it also happens when this one dies.
"""

import asyncio
import codecs
import contextlib
import errno
import json
import os
import shutil
import signal
import socket
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict, Unpack

from gatebook.errors import ActionError, Permanent, shown
from gatebook.kernel.codec import MAX_PAYLOAD
from gatebook.kernel.tools import Effect
from gatebook.tools.beneath import FolderPath, opened_folder, parts
from gatebook.tools.context import ToolContext
from gatebook.tools.function import FunctionTool, tool
from gatebook.tools.options import refused
from gatebook.tools.sandbox import PROFILES, Profile, ShellLimits, bubblewrap, wrapped

MAX_STREAM = 512 * 1024  # bytes kept of stdout and of stderr; the rest is read and dropped
MAX_SHOWN = 64 * 1024  # bytes of a result that a model reads
MAX_ARGS = 100 * 1024  # bytes of all arguments; one argument may have 128 KiB on Linux
MAX_TIMES, ROOM = 6, 4 * 1024  # a control character takes six bytes in JSON
GRACE_S = 2.0  # between SIGTERM and SIGKILL; the executor waits 5 s for a tool to stop
PIECE = 64 * 1024
NAME = "shell.run"
KEY = "GATEBOOK_IDEMPOTENCY_KEY"
SUPERVISOR = str(Path(__file__).with_name("supervise.py"))
LOADER = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")  # what this interpreter may need to start
TEMPORARY = (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE)


@dataclass(frozen=True)
class Ran:
    """How a program ended.

    Attributes:
        exit_code: what it returned; -n when signal n ended it.
        stdout, stderr: the beginning of what it wrote; what is no UTF-8 is replaced.
        truncated: it wrote more than is kept.
    """

    exit_code: int
    stdout: str
    stderr: str
    truncated: bool


@dataclass(frozen=True)
class _Setting:
    """What `shell` was told, checked."""

    programs: Mapping[str, str]
    root: str
    env: Mapping[str, str]
    limits: Mapping[str, int]
    bwrap: str
    network: bool
    max_stream: int


class ShellOptions(TypedDict, total=False):
    """Options of `shell(...)`.

    Attributes:
        env: names of variables to pass on from this process, or their values; nothing else.
        effect: what a second start would do, of every program listed; undeclared it is
            `at_most_once`. `idempotent` programs find the key in GATEBOOK_IDEMPOTENCY_KEY.
        max_stream: bytes kept of stdout and of stderr.
        profile: `rlimits` sets `limits`; `bwrap` also shows the program only the system
            (read-only) and `cwd`, without a network. None does neither.
        limits: other than the defaults; needs a profile.
        network: let the program reach the network under `bwrap`. Where it may, the tool is taken
            to send outside.
        returns: labels of what programs write: {"private"}, {"untrusted"}.
        name: of the tool, instead of `shell.run`.
    """

    env: Mapping[str, str] | Sequence[str]
    effect: Effect
    max_stream: int
    profile: Profile | None
    limits: ShellLimits
    network: bool
    returns: Iterable[str]
    name: str


def shell(
    programs: Sequence[str] | Mapping[str, str],
    *,
    cwd: str | os.PathLike[str],
    **options: Unpack[ShellOptions],
) -> FunctionTool[..., Any]:
    """Return a tool that runs one of the programs with a list of arguments below `cwd`.

    Standard input is empty. When the program ends, runs out of time or is cancelled, or this
    process dies, all processes that came of it are killed. A program that runs others (`sh`,
    `python`, `env`, `find`, `xargs`, `git` ...) gives away everything this user may do: list it
    only under `profile="bwrap"`.

    Args:
        programs: names found now on PATH, absolute paths, or name -> absolute path.
        cwd: where programs run; the model may name a folder below it.
        options: see ShellOptions.

    Raises:
        ConfigError: E_TOOL_DECLARATION, or E_SANDBOX_MISSING when bubblewrap is not installed.
    """
    name, effect = options.get("name", NAME), options.get("effect", "at_most_once")
    setting = _setting(programs, os.path.abspath(cwd), options)

    @tool(
        name=name,
        description="Run a program without a shell and return what it wrote. Programs: "
        + ", ".join(sorted(setting.programs)),
        effect=effect,
        on_error="unknown",
        max_output=MAX_SHOWN,
        returns=options.get("returns", ()),
        sends=not setting.bwrap or setting.network,  # nothing else keeps it from doing so
    )
    async def run(ctx: ToolContext, argv: list[str], folder: FolderPath = ".") -> Ran:
        """Run a program.

        Args:
            argv: the program's name, then each argument as an item of its own, never quoted
            folder: where to run it, relative to the working folder
        """
        key = {KEY: ctx.idempotency_key} if effect == "idempotent" else {}
        return await _run(setting, argv, folder, {**setting.env, **key})

    return run


def _setting(
    programs: Sequence[str] | Mapping[str, str], root: str, options: ShellOptions
) -> _Setting:
    name, profile = options.get("name", NAME), options.get("profile")
    unknown = options.keys() - ShellOptions.__annotations__.keys()
    if unknown:
        known = ", ".join(ShellOptions.__annotations__)
        raise refused(name, f"there is no option {min(unknown)}", f"give {known}")
    if not hasattr(os, "waitid"):  # macOS has it in Python from 3.13 on
        fix = "use Linux, or macOS with Python 3.13 or newer"
        raise refused(name, "this Python cannot watch a program without reaping it", fix)
    return _Setting(
        programs=_located(name, programs),
        root=root,
        env=_environment(name, options.get("env", ())),
        limits=_limits(name, profile, options.get("limits")),
        bwrap=bubblewrap(name) if profile == "bwrap" else "",
        network=_network(name, profile, options.get("network", False)),
        max_stream=_stream(name, options.get("max_stream", MAX_STREAM)),
    )


def _located(name: str, programs: Sequence[str] | Mapping[str, str]) -> dict[str, str]:
    """Return name -> absolute path of every program."""
    if isinstance(programs, str) or not programs:
        raise refused(name, "it lists no programs", 'give a list: shell(["git"], cwd="repo")')
    found = {}
    given = programs.items() if isinstance(programs, Mapping) else ((p, "") for p in programs)
    for program, place in given:
        path = place or (program if program.startswith("/") else shutil.which(program) or "")
        if not path:
            fix = "install it, or give its absolute path: {'name': '/path/to/it'}"
            raise refused(name, f"program {shown(program)} is not on PATH", fix)
        path = path if place else os.path.abspath(path)
        if not path.startswith("/") or "\0" in path + program or ("/" in program and place):
            fix = "name it without a slash and give its absolute path"
            raise refused(name, f"program {shown(program)} has no fixed place", fix)
        found[program] = path
    return found


def _environment(name: str, env: Mapping[str, str] | Sequence[str]) -> dict[str, str]:
    if isinstance(env, str):
        raise refused(name, "env= is text", 'give a list: env=["LANG"]')
    given = env if isinstance(env, Mapping) else {n: os.environ[n] for n in env if n in os.environ}
    for key, value in given.items():
        if not key or "=" in key or "\0" in key + value:
            raise refused(name, f"variable {shown(key)} is not allowed", "give names and text")
    return dict(given)


def _limits(name: str, profile: object, limits: ShellLimits | None) -> dict[str, int]:
    if profile not in (None, *PROFILES):
        raise refused(name, f"profile={shown(profile)} is not known", "give 'rlimits' or 'bwrap'")
    if profile is None and limits is not None:
        raise refused(name, "limits= needs a profile", "give profile='rlimits' as well")
    return {} if profile is None else (limits or ShellLimits()).order(name)


def _network(name: str, profile: object, network: bool) -> bool:
    if network and profile != "bwrap":
        fix = "drop it, or give profile='bwrap': nothing else can take the network away"
        raise refused(name, "network= needs profile='bwrap'", fix)
    return network


def _stream(name: str, size: object) -> int:
    most = (MAX_PAYLOAD - ROOM) // (2 * MAX_TIMES)
    if type(size) is not int or not 1 <= size <= most:
        raise refused(name, f"max_stream={shown(size)} is not allowed", f"give bytes up to {most}")
    return size


async def _run(setting: _Setting, argv: list[str], folder: str, env: Mapping[str, str]) -> Ran:
    path = _checked(setting, argv)
    names = parts(folder)
    with opened_folder(setting.root, names) as where:
        order: dict[str, Any] = {
            "argv": [path],
            "shown": argv,
            "env": dict(env),
            "limits": dict(setting.limits),
            "folder": where,
            "grace_s": GRACE_S,
        }
        if setting.bwrap:
            command = wrapped(
                setting.bwrap,
                path,
                argv[1:],
                root=setting.root,
                folder="/".join(names),
                network=setting.network,
            )
            order |= {"argv": command[:1], "shown": command}
        with _channel() as (ours, theirs):
            try:
                process = await asyncio.create_subprocess_exec(
                    sys.executable, "-I", "-S", SUPERVISOR, str(theirs.fileno()),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.PIPE,
                    pass_fds=(theirs.fileno(), where),
                    env={name: os.environ[name] for name in LOADER if name in os.environ},
                    start_new_session=True,
                )  # fmt: skip
            except OSError as exc:
                raise ActionError.transient(f"no process could be started: {exc}") from exc
            theirs.close()
            return await _watched(setting, process, ours, order)


def _checked(setting: _Setting, argv: list[str]) -> str:
    """Return where the program is. Raises Permanent: nothing was started."""
    if not argv or argv[0] not in setting.programs:
        names = ", ".join(sorted(setting.programs))
        raise Permanent(code="E_SHELL_PROGRAM", value=argv[0] if argv else "", names=names)
    if any("\0" in item for item in argv):
        raise Permanent(code="E_SHELL_ARGUMENTS", detail="one has a NUL character")
    try:
        size = sum(len(item.encode()) + 1 for item in argv)
    except UnicodeEncodeError:
        raise Permanent(code="E_SHELL_ARGUMENTS", detail="one is not Unicode text") from None
    if size > MAX_ARGS:
        raise Permanent(code="E_SHELL_ARGUMENTS", detail=f"they have more than {MAX_ARGS} bytes")
    return setting.programs[argv[0]]


@contextlib.contextmanager
def _channel() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Give the two ends of a channel to a supervisor; closing ours makes it kill and leave.

    Raises:
        Transient: there are no descriptors left, so nothing was started.
    """
    try:
        ours, theirs = socket.socketpair()
    except OSError as exc:
        raise ActionError.transient(f"no process could be started: {exc}") from exc
    try:
        ours.setblocking(False)
        yield ours, theirs
    finally:
        ours.close()
        theirs.close()


async def _watched(
    setting: _Setting,
    process: asyncio.subprocess.Process,
    ours: socket.socket,
    order: Mapping[str, Any],
) -> Ran:
    """Give the supervisor its order and return what came of it.

    However this is left, the channel is closed first, which makes the supervisor kill everything;
    its end is then waited for, a little longer than it may take.
    """
    try:
        async with asyncio.TaskGroup() as group:
            said = group.create_task(_conversed(ours, order))
            out = group.create_task(_beginning(process.stdout, setting.max_stream))
            err = group.create_task(_beginning(process.stderr, setting.max_stream))
    except ExceptionGroup as exc:
        raise ConnectionError("the supervisor of the program was lost") from exc
    finally:
        ours.close()
        await _ended(process, GRACE_S + 1.5)
    told = said.result()
    if "failed" in told:
        message = f"{shown(order['shown'][0])} could not be started: {told['failed']}"
        temporary = told.get("errno") in TEMPORARY
        raise ActionError.transient(message) if temporary else ActionError.permanent(message)
    if "exit_code" not in told:
        with contextlib.suppress(KeyError, ProcessLookupError, PermissionError):
            os.killpg(told["started"], signal.SIGKILL)
        raise ConnectionError("the supervisor of the program was lost")
    (stdout, more), (stderr, more_err) = out.result(), err.result()
    return Ran(told["exit_code"], stdout, stderr, more or more_err)


async def _conversed(ours: socket.socket, order: Mapping[str, Any]) -> dict[str, Any]:
    """Send the order and return all that is answered."""
    loop = asyncio.get_running_loop()
    heard = b""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        await loop.sock_sendall(ours, json.dumps(order).encode() + b"\n")
        while piece := await loop.sock_recv(ours, PIECE):
            heard += piece
    told: dict[str, Any] = {}
    for line in heard.splitlines():
        told |= json.loads(line)
    return told


async def _beginning(stream: asyncio.StreamReader | None, limit: int) -> tuple[str, bool]:
    """Return the first `limit` bytes as text, and whether there were more; reads to the end."""
    assert stream is not None
    kept = bytearray()
    more = False
    while piece := await stream.read(PIECE):
        more = more or len(kept) + len(piece) > limit
        kept += piece[: limit - len(kept)]
    text = codecs.getincrementaldecoder("utf-8")("replace")
    return text.decode(kept, final=not more), more  # half a character at a cut is left out


async def _ended(process: asyncio.subprocess.Process, bound_s: float) -> None:
    """Wait for the supervisor to leave, even when cancelled meanwhile; then kill it."""
    until = asyncio.get_running_loop().time() + bound_s
    waiting = asyncio.ensure_future(process.wait())
    cancelled = False
    while not waiting.done() and (left := until - asyncio.get_running_loop().time()) > 0:
        try:
            await asyncio.wait({waiting}, timeout=left)
        except asyncio.CancelledError:
            cancelled = True
    if not waiting.done():
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        waiting.cancel()
    if cancelled:
        raise asyncio.CancelledError
