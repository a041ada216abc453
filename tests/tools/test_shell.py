"""`shell`: programs as lists of arguments, started, bounded and ended as real processes."""

import asyncio
import contextlib
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.runtime.kit import Desk, flow
from tests.tools.shipped import all_gone, ask, call, invocation, linux, pids, refusal, wait_until

from gatebook.errors import ActionError, ConfigError
from gatebook.kernel.events import ActionUnknown
from gatebook.tools import shell

pytestmark = linux

# Writes its pid and that of a child that has left the group, then waits for ever.
FAMILY = "echo $$ >> pids; setsid sh -c 'echo $$ >> pids; sleep 1000' & sleep 1000"
DEAF = "trap '' TERM; " + FAMILY


def test_arguments_are_passed_literally(tmp_path: Path) -> None:
    """A11: what a shell would run is text here."""
    run = shell(["echo"], cwd=tmp_path)

    found = call(run, argv=["echo", "$(id)", "; rm -rf *", "a b", "`x`", "&&", "|"])

    assert found["stdout"] == "$(id) ; rm -rf * a b `x` && |\n"


@pytest.mark.parametrize("argv", [["rm", "x"], ["/bin/echo"], ["./echo"], [""], []])
def test_only_listed_programs_run(argv: list[str], tmp_path: Path) -> None:
    """A prefix or another spelling of an allowed program is another program."""
    error = refusal(shell(["echo"], cwd=tmp_path), argv=argv)

    assert error.code == "E_SHELL_PROGRAM"
    assert "echo" in str(error)


def test_a_program_in_the_working_folder_is_not_found_by_name(tmp_path: Path) -> None:
    """Whoever can write there must not be able to replace a listed program."""
    fake = tmp_path / "echo"
    fake.write_text("#!/bin/sh\necho fake\n")
    fake.chmod(0o755)

    assert call(shell(["echo"], cwd=tmp_path), argv=["echo", "real"])["stdout"] == "real\n"


def test_a_program_may_be_given_a_name(tmp_path: Path) -> None:
    """What a model reads need not be a path."""
    run = shell({"greet": "/bin/echo"}, cwd=tmp_path)

    assert call(run, argv=["greet", "you"])["stdout"] == "you\n"


def test_the_exit_code_is_a_result(tmp_path: Path) -> None:
    """`grep` that finds nothing has not failed."""
    run = shell(["sh"], cwd=tmp_path)

    assert call(run, argv=["sh", "-c", "echo no >&2; exit 3"]) == {
        "exit_code": 3, "stdout": "", "stderr": "no\n", "truncated": False,
    }  # fmt: skip
    assert call(run, argv=["sh", "-c", "kill -9 $$"])["exit_code"] == -9


def test_nothing_of_the_environment_is_passed_on(tmp_path: Path) -> None:
    """Keys live in the environment."""
    run = shell(["env"], cwd=tmp_path)

    assert call(run, argv=["env"])["stdout"] == ""


def test_listed_variables_are_passed_on(tmp_path: Path) -> None:
    """By name, from here; or with their values."""
    named = shell(["env"], cwd=tmp_path, env=["HOME", "NOT_SET_ANYWHERE"])
    given = shell(["env"], cwd=tmp_path, env={"LANG": "C.UTF-8"})

    assert call(named, argv=["env"])["stdout"] == f"HOME={os.environ['HOME']}\n"
    assert call(given, argv=["env"])["stdout"] == "LANG=C.UTF-8\n"


def test_standard_input_is_empty(tmp_path: Path) -> None:
    """A program that asks must not wait for ever."""
    assert call(shell(["cat"], cwd=tmp_path), argv=["cat"])["stdout"] == ""


def test_output_is_kept_to_its_limit_and_the_rest_is_read(tmp_path: Path) -> None:
    """A program that writes on must not block on a full pipe, nor fill this process."""
    run = shell(["sh"], cwd=tmp_path, max_stream=10)

    found = call(run, argv=["sh", "-c", "yes | head -c 3000000; echo done >&2"])

    assert found == {
        "exit_code": 0, "stdout": "y\n" * 5, "stderr": "done\n", "truncated": True,
    }  # fmt: skip


def test_endless_output_takes_no_memory(tmp_path: Path) -> None:
    """A17: a gigabyte that a program writes must not become one of the worker's."""
    run = shell(["head"], cwd=tmp_path)
    call(run, argv=["head", "-c", "1000", "/dev/zero"])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    found = call(run, argv=["head", "-c", "300000000", "/dev/zero"])

    assert found["truncated"]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60_000  # KiB


def test_half_a_character_at_the_cut_is_left_out(tmp_path: Path) -> None:
    """What was cut is not what is broken."""
    run = shell(["printf"], cwd=tmp_path, max_stream=4)

    assert call(run, argv=["printf", "aaaé"])["stdout"] == "aaa"


def test_what_is_no_text_is_replaced(tmp_path: Path) -> None:
    """JSON holds text only."""
    run = shell(["printf"], cwd=tmp_path)

    assert call(run, argv=["printf", r"a\377b"])["stdout"] == "a\ufffdb"


def test_a_program_runs_in_a_folder_below(tmp_path: Path) -> None:
    """`cwd` is as far as it goes."""
    (tmp_path / "sub").mkdir()

    assert call(shell(["pwd"], cwd=tmp_path), argv=["pwd"], folder="sub")["stdout"] == (
        f"{tmp_path}/sub\n"
    )


@pytest.mark.parametrize("folder", ["..", "/", "out", "sub/../..", "a\0b"])
def test_a_folder_outside_is_refused(folder: str, tmp_path: Path) -> None:
    """A9: a link or a path upwards would be a way out."""
    (tmp_path / "out").symlink_to("/")

    assert refusal(shell(["pwd"], cwd=tmp_path), argv=["pwd"], folder=folder).code == "E_PATH"


@pytest.mark.parametrize("argv", [["echo", "a\0b"], ["echo", "x" * 200_000]])
def test_arguments_that_cannot_be_passed_are_refused(argv: list[str], tmp_path: Path) -> None:
    """The kernel would say less."""
    assert refusal(shell(["echo"], cwd=tmp_path), argv=argv).code == "E_SHELL_ARGUMENTS"


def test_a_program_that_cannot_start_did_nothing(tmp_path: Path) -> None:
    """So the run may go on: nobody has to look what it did."""
    gone = tmp_path / "gone"
    gone.write_text("#!/bin/sh\n")
    gone.chmod(0o755)
    run = shell({"gone": str(gone)}, cwd=tmp_path)
    gone.unlink()

    error = refusal(run, argv=["gone"])

    assert error.kind == "permanent"
    assert "could not be started" in str(error)


def test_a_second_start_is_taken_to_do_harm(tmp_path: Path) -> None:
    """Nobody knows what a program does."""
    assert shell(["echo"], cwd=tmp_path).spec.effect == "at_most_once"


def test_an_idempotent_program_is_given_the_key(tmp_path: Path) -> None:
    """Whoever says that a second start does nothing new needs a way to know it is one."""
    run = shell(["env"], cwd=tmp_path, effect="idempotent")

    assert call(run, argv=["env"])["stdout"] == "GATEBOOK_IDEMPOTENCY_KEY=gb1-key\n"


async def cancelled_once(task: "asyncio.Task[Any]", ready: Any) -> None:
    """Cancel a call once its program runs, and wait for its end."""
    await asyncio.to_thread(ready)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("script", [FAMILY, DEAF])
def test_a_cancelled_call_leaves_no_process(script: str, tmp_path: Path) -> None:
    """D58: not one that has left the group either, nor one that is deaf to SIGTERM."""
    run = shell(["sh"], cwd=tmp_path, env=["PATH"])

    async def scenario() -> list[int]:
        task = asyncio.create_task(ask(run, argv=["sh", "-c", script]))
        await cancelled_once(task, lambda: pids(tmp_path / "pids", 2))
        return pids(tmp_path / "pids", 2)

    assert all_gone(asyncio.run(scenario()))


def test_a_program_may_tidy_up_when_it_is_told_to_end(tmp_path: Path) -> None:
    """SIGTERM comes first, and a moment to act on it."""
    run = shell(["sh"], cwd=tmp_path, env=["PATH"])
    script = "trap 'echo tidy > left; exit' TERM; echo $$ > pids; while :; do sleep 0.01; done"

    async def scenario() -> None:
        task = asyncio.create_task(ask(run, argv=["sh", "-c", script]))
        await cancelled_once(task, lambda: pids(tmp_path / "pids", 1))

    asyncio.run(scenario())

    assert (tmp_path / "left").read_text() == "tidy\n"


def test_what_a_program_leaves_behind_is_killed_when_it_ends(tmp_path: Path) -> None:
    """D58: a result must not have a life of its own."""
    run = shell(["sh"], cwd=tmp_path, env=["PATH"])
    script = "setsid sh -c 'echo $$ > pids; exec sleep 1000' & while [ ! -s pids ]; do :; done"

    assert call(run, argv=["sh", "-c", script])["exit_code"] == 0

    assert all_gone(pids(tmp_path / "pids", 1))


def test_what_a_program_leaves_behind_takes_no_place_once_it_has_ended(tmp_path: Path) -> None:
    """A program that starts daemons for days would fill the machine with dead ones."""
    run = shell(["sh"], cwd=tmp_path, env=["PATH"])
    script = (
        "for n in 1 2 3 4 5 6 7 8 9; do (sleep 0 &); done; waits=0;"
        " until [ $(wc -w < /proc/$PPID/task/$PPID/children) = 1 ] || [ $waits = 1000 ];"
        " do waits=$((waits + 1)); sleep 0.01; done; echo $waits"
    )

    assert call(run, argv=["sh", "-c", script])["stdout"] != "1000\n"


CALLER = """
import asyncio, sys
from tests.tools.shipped import ask
from gatebook.tools import shell

asyncio.run(ask(shell(["sh"], cwd=sys.argv[1], env=["PATH"]), argv=["sh", "-c", sys.argv[2]]))
"""


@pytest.mark.parametrize("script", [FAMILY, DEAF])
def test_a_killed_caller_leaves_no_process(script: str, tmp_path: Path) -> None:
    """Kill -9 of the worker: its effects must not outlive it by more than their end takes."""

    async def scenario() -> list[int]:
        caller = await asyncio.create_subprocess_exec(
            sys.executable, "-c", CALLER, str(tmp_path), script
        )
        found = await asyncio.to_thread(pids, tmp_path / "pids", 2)
        caller.kill()
        await caller.wait()
        return found

    found = asyncio.run(scenario())

    wait_until(lambda: all_gone(found), "the end of the program and its child")


def test_a_lost_supervisor_leaves_the_outcome_unknown_and_no_program(tmp_path: Path) -> None:
    """An OSError is what the executor takes for an effect that may have happened."""
    run = shell(["sh"], cwd=tmp_path, env=["PATH"])
    script = "echo $$ $PPID > pids; exec sleep 1000"

    async def scenario() -> list[int]:
        task = asyncio.create_task(ask(run, argv=["sh", "-c", script]))
        found = await asyncio.to_thread(pids, tmp_path / "pids", 2)
        os.kill(found[1], signal.SIGKILL)
        with pytest.raises(ConnectionError):
            await task
        return found

    found = asyncio.run(scenario())

    wait_until(lambda: all_gone(found), "the end of the program")


def test_many_programs_run_at_once(tmp_path: Path) -> None:
    """One waits for none of the others."""
    run = shell(["sh"], cwd=tmp_path, env=["PATH"])

    async def scenario() -> list[Any]:
        first = "while [ ! -e go ]; do sleep 0.01; done; echo $0"
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(ask(run, argv=["sh", "-c", first, str(n)])) for n in range(5)
            ]
            tasks.append(group.create_task(ask(run, argv=["sh", "-c", "touch go"])))
        return [task.result()["stdout"] for task in tasks]

    assert asyncio.run(scenario()) == ["0\n", "1\n", "2\n", "3\n", "4\n", ""]


@pytest.mark.parametrize("left", range(1, 8))
def test_a_worker_out_of_descriptors_has_started_nothing(left: int, tmp_path: Path) -> None:
    """A model that asks for much at once must not leave it open whether that happened."""
    run = shell(["true"], cwd=tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def scenario() -> str:
        held = []
        resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))
        try:
            with contextlib.suppress(OSError):
                while True:
                    held.append(os.open(os.devnull, os.O_RDONLY))
            for _ in range(left):
                os.close(held.pop())
            await run.call(b'{"argv":["true"],"folder":"."}', invocation())
        except ActionError as error:
            return error.kind
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for file in held:
                os.close(file)
        return "started"

    assert asyncio.run(scenario()) in ("transient", "permanent")


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    """A worker lives for months."""
    run = shell(["true"], cwd=tmp_path)

    async def scenario() -> int:
        await ask(run, argv=["true"])
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(5):
            await ask(run, argv=["true"])
        for _ in range(3):
            task = asyncio.create_task(run.call(b'{"argv":["true"],"folder":"."}', invocation()))
            await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        return len(os.listdir("/proc/self/fd")) - before

    assert asyncio.run(scenario()) == 0


def test_a_program_that_runs_out_of_time_is_unknown_and_gone(tmp_path: Path) -> None:
    """What it did until then nobody knows; that it does no more is sure."""

    async def scenario() -> list[int]:
        desk = Desk()
        made = shell(["sh"], cwd=tmp_path, env=["PATH"]).options(timeout=1)

        async def body(ctx: Any) -> None:
            await ctx.call_tool(made, argv=["sh", "-c", FAMILY])

        async with desk.open() as runtime:
            await desk.settled(await runtime.start(flow(body, made), None, run_id="r"))
            assert (await desk.only("r", ActionUnknown)).error.code == "E_UNKNOWN_TIMEOUT"
        return pids(tmp_path / "pids", 2)

    assert all_gone(asyncio.run(scenario()))


@pytest.mark.parametrize(
    ("programs", "options"),
    [
        ([], {}), ("echo", {}), (["there-is-no-such-program"], {}), ({"a/b": "/bin/echo"}, {}),
        ({"a": "relative"}, {}), (["echo"], {"env": "HOME"}), (["echo"], {"env": {"A=B": "c"}}),
        (["echo"], {"limits": 3}), (["echo"], {"profile": "docker"}), (["echo"], {"network": True}),
        (["echo"], {"max_stream": 0}), (["echo"], {"max_stream": 10**9}),
        (["echo"], {"shell": True}), (["echo"], {"effect": "harmless"}),
        (["echo"], {"returns": "private"}),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(programs: Any, options: Any, tmp_path: Path) -> None:
    """A limit that is silently not kept is worse than none."""
    with pytest.raises(ConfigError) as caught:
        shell(programs, cwd=tmp_path, **options)

    assert caught.value.code == "E_TOOL_DECLARATION"


def test_a_program_that_may_reach_the_network_is_taken_to_send(tmp_path: Path) -> None:
    """Rules about what leaves must see it."""
    assert shell(["echo"], cwd=tmp_path).spec.sends
    assert shell(["echo"], cwd=tmp_path, returns={"private"}).spec.returns == ("private",)


def test_a_python_that_cannot_watch_programs_is_told_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On macOS before Python 3.13 the supervisor would break after it has started the program."""
    monkeypatch.delattr(os, "waitid")

    with pytest.raises(ConfigError, match="macOS with Python 3"):
        shell(["true"], cwd=tmp_path)
