"""Sandbox profiles of `shell`: limits the kernel keeps, and bubblewrap where it is installed."""

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.tools.shipped import all_gone, ask, call, linux, pids

from gatebook.errors import ConfigError
from gatebook.tools import ShellLimits, shell

pytestmark = linux

MIB = 1024 * 1024


def bwrap_works() -> bool:
    """Whether this machine has bubblewrap and lets it make namespaces."""
    found = shutil.which("bwrap")
    command = [found or "", "--unshare-all", "--ro-bind", "/", "/", "true"]
    return found is not None and subprocess.run(command, check=False).returncode == 0


bubblewrap = pytest.mark.skipif(not bwrap_works(), reason="bubblewrap is not installed or refused")


def commands() -> list[bytes]:
    """The command lines of all processes of this machine."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has ended since
            found.append(path.read_bytes())
    return found


def python(tmp_path: Path, **limits: int) -> Any:
    """A tool that runs this interpreter under limits."""
    return shell(
        {"python": sys.executable}, cwd=tmp_path, profile="rlimits", limits=ShellLimits(**limits)
    )


def test_processor_time_is_limited(tmp_path: Path) -> None:
    """The kernel ends a program that computes for ever."""
    found = call(python(tmp_path, cpu_s=1), argv=["python", "-c", "while True: pass"])

    assert found["exit_code"] < 0


def test_memory_is_limited(tmp_path: Path) -> None:
    """A program that takes everything takes the worker with it."""
    run = python(tmp_path, memory=512 * MIB)

    assert "MemoryError" in call(run, argv=["python", "-c", "b'x' * 10**9"])["stderr"]
    assert call(run, argv=["python", "-c", "b'x' * 10**6"])["exit_code"] == 0


def test_the_size_of_a_file_is_limited(tmp_path: Path) -> None:
    """A full disk stops every run."""
    code = "with open('big', 'wb', buffering=0) as file:\n  while True: file.write(b'x' * 600)"

    found = call(python(tmp_path, file_size=1_000), argv=["python", "-c", code])

    assert found["exit_code"] != 0
    assert (tmp_path / "big").stat().st_size <= 1_000


def test_open_files_are_limited(tmp_path: Path) -> None:
    """Descriptors are shared by the machine."""
    code = "files = [open('/dev/null') for _ in range(100)]"

    found = call(python(tmp_path, open_files=50), argv=["python", "-c", code])

    assert "Too many open files" in found["stderr"]


def test_no_program_leaves_a_core_file(tmp_path: Path) -> None:
    """A core holds the memory of the program, and what it read."""
    run = shell(["sh"], cwd=tmp_path)

    assert call(run, argv=["sh", "-c", "ulimit -c"])["stdout"] == "0\n"


@pytest.mark.parametrize("limits", [{"cpu_s": 0}, {"memory": -1}, {"open_files": 1.5}])
def test_a_limit_that_is_none_is_refused(limits: Any, tmp_path: Path) -> None:
    """Zero would end every program, or mean no limit: nobody knows which was meant."""
    with pytest.raises(ConfigError) as caught:
        python(tmp_path, **limits)

    assert caught.value.code == "E_TOOL_DECLARATION"


def test_a_missing_sandbox_is_refused_when_it_is_declared(tmp_path: Path) -> None:
    """Running without it would fail open."""
    code = f"from gatebook.tools import shell; shell(['/bin/echo'], cwd={str(tmp_path)!r}, "
    code += "profile='bwrap')"

    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PATH": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert "[E_SANDBOX_MISSING]" in done.stderr


@bubblewrap
def test_a_sandboxed_program_sees_the_system_and_its_folder_only(tmp_path: Path) -> None:
    """A22: not the files of whoever runs the worker."""
    outside = tmp_path / "secret"
    outside.write_text("canary")
    work = tmp_path / "work"
    work.mkdir()
    (work / "own").write_text("mine")
    run = shell(["cat", "ls"], cwd=work, profile="bwrap")

    assert call(run, argv=["cat", "own"])["stdout"] == "mine"
    assert call(run, argv=["cat", str(outside)])["exit_code"] == 1
    assert call(run, argv=["cat", "/etc/passwd"])["exit_code"] == 1
    assert call(run, argv=["ls", str(tmp_path)])["stdout"] == "work\n"


@bubblewrap
def test_a_sandboxed_program_writes_to_its_folder_only(tmp_path: Path) -> None:
    """The system is read-only; what it puts into /tmp is gone with it."""
    run = shell(["touch"], cwd=tmp_path, profile="bwrap")

    assert call(run, argv=["touch", "new"])["exit_code"] == 0
    assert call(run, argv=["touch", "/usr/new"])["exit_code"] == 1
    assert call(run, argv=["touch", "/tmp/gatebook-test-new"])["exit_code"] == 0

    assert (tmp_path / "new").exists()
    assert not Path("/tmp/gatebook-test-new").exists()


@bubblewrap
def test_a_sandboxed_program_has_no_network(tmp_path: Path) -> None:
    """Not even this machine's own services."""
    run = shell(["cat"], cwd=tmp_path, profile="bwrap")

    devices = call(run, argv=["cat", "/proc/net/dev"])["stdout"].splitlines()[2:]

    assert [line.split(":")[0].strip() for line in devices] == ["lo"]
    assert not run.spec.sends
    assert shell(["cat"], cwd=tmp_path, profile="bwrap", network=True).spec.sends


@bubblewrap
def test_a_sandboxed_program_is_killed_with_all_its_children(tmp_path: Path) -> None:
    """A sandbox that outlives its call is a hiding-place."""
    run = shell(["sh"], cwd=tmp_path, env=["PATH"], profile="bwrap")
    # Inside, numbers are those of its own namespace: /proc says nothing about the ones outside.
    script = "setsid sh -c 'while :; do date > alive; sleep 0.01; done' & touch up; sleep 1000"

    async def scenario() -> None:
        task = asyncio.create_task(ask(run, argv=["sh", "-c", script]))
        while not (tmp_path / "alive").exists():  # noqa: ASYNC110 - another process's fact
            await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scenario())

    assert not any(b"date > alive" in command for command in commands())


@bubblewrap
def test_a_sandboxed_program_runs_in_the_folder_it_was_given(tmp_path: Path) -> None:
    """The same path inside as outside: what it prints can be used."""
    (tmp_path / "sub").mkdir()
    run = shell(["pwd"], cwd=tmp_path, profile="bwrap")

    assert call(run, argv=["pwd"], folder="sub")["stdout"] == f"{tmp_path}/sub\n"


def test_limits_count_for_the_children_of_a_program(tmp_path: Path) -> None:
    """A limit that a child escapes is none."""
    run = shell(["sh"], cwd=tmp_path, env=["PATH"], profile="rlimits",
                limits=ShellLimits(open_files=33))  # fmt: skip

    found = call(run, argv=["sh", "-c", "sh -c 'echo $$ > pids; ulimit -n'"])

    assert found["stdout"] == "33\n"
    assert all_gone(pids(tmp_path / "pids", 1))
