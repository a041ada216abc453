"""A folder with an app, and the real command run in it."""

import io
import json
import os
import subprocess
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from gatebook.cli.main import run
from tests.cli.policies import NO_REFUNDS, READS, SMALL, write

COMMAND = Path(sys.executable).with_name("gatebook")
PATIENCE_S = 50  # only a broken build gets there
ALLOW = ("--policy", "allow-declared")

APP = '''"""The app of the command line's tests."""

import asyncio
import os
import time
from datetime import timedelta
from pathlib import Path

from gatebook import Agent, AllowDeclared, Budget, Permanent, Runtime, tool, workflow


@tool(effect="read")
async def look_up(order: str) -> dict[str, int]:
    """Look an order up."""
    return {"amount": 20}


@tool
async def refund(order: str, amount: int) -> str:
    """Refund an order."""
    with open("refunds", "a") as file:
        file.write(order + "\\n")
    return f"refunded {amount}"


@tool
async def vague(order: str) -> str:
    """Lose the connection after asking."""
    raise OSError("connection reset")


@tool
async def broken(order: str) -> str:
    """Refuse."""
    raise Permanent("no such order")


@tool
async def slow() -> str:
    """Work until a file named `go` is there."""
    with open("slow-calls", "a") as file:
        file.write("x")
    while not Path("go").exists():
        await asyncio.sleep(0.005)
    return "done"


@workflow(tools=[look_up, refund])
async def pay(ctx, order: str) -> str:
    found = await ctx.call_tool(look_up, order=order)
    return await ctx.call_tool(refund, order=order, amount=found["amount"])


@workflow
async def ask(ctx) -> dict:
    return {"answer": await ctx.wait_signal("go")}


@workflow(tools=[vague])
async def unsure(ctx, order: str) -> str:
    return await ctx.call_tool(vague, order=order)


@workflow(tools=[broken])
async def fails(ctx, order: str) -> str:
    return await ctx.call_tool(broken, order=order)


@workflow(tools=[slow, look_up])
async def long(ctx) -> str:
    done = await ctx.call_tool(slow)
    await ctx.call_tool(look_up, order="1")
    return done


@workflow
async def naps(ctx) -> str:
    await ctx.sleep(timedelta(hours=2))
    return "awake"


@workflow(version=os.environ.get("CHANGE", "1"), tools=[look_up, refund])
async def changes(ctx, order: str) -> str:
    await ctx.wait_signal("go")
    if os.environ.get("CHANGE"):
        return await ctx.call_tool(refund, order=order, amount=1)
    return str(await ctx.call_tool(look_up, order=order))


@workflow(tools=[look_up])
async def timed(ctx, how: str) -> str:
    try:
        stamp = time.time() if how != "never" else 0
    except Exception:
        if how == "let go":
            raise
    await ctx.call_tool(look_up, order="1")
    return how


support = Agent(name="support", model="scripted:answers.json", tools=[look_up])
policy = AllowDeclared(budget=Budget(tool_calls=9))
runtime = Runtime(programs=[pay, ask, long], policy=AllowDeclared())
own_store = Runtime("sqlite:///own.db", programs=[pay], policy=AllowDeclared())
'''

ANSWERS = {
    "rules": [
        {
            "when": {"turns": 0},
            "say": "I look.",
            "call": [{"tool": "look_up", "args": {"order": "17"}}],
        },
        {"when": {"turns": 1}, "say": "It costs 20 euros.\u001b[31m"},
    ]
}


class Folder:
    """A folder of a user who has an app and no settings."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("GATEBOOK_")}
        self.env |= {
            "XDG_DATA_HOME": str(path / "data"),
            "XDG_CONFIG_HOME": str(path / "config"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "TERM": "xterm",
            "USER": "ann",
        }
        self.env.pop("NO_COLOR", None)
        (path / "app.py").write_text(APP)
        (path / "answers.json").write_text(json.dumps(ANSWERS))

    def __call__(
        self, *args: str, stdin: str = "", env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run `gatebook` with arguments and return what it wrote and its exit code."""
        return subprocess.run(
            [COMMAND, *args],
            cwd=self.path, env=self.env | (env or {}), input=stdin,
            capture_output=True, text=True, timeout=PATIENCE_S, check=False,
        )  # fmt: skip

    def json(self, *args: str, env: dict[str, str] | None = None) -> Any:
        """Run `gatebook ... --json` and return its document."""
        done = self(*args, "--json", env=env)
        assert done.stdout, done.stderr
        return json.loads(done.stdout)

    def begin(self, *args: str) -> subprocess.Popen[str]:
        """Start `gatebook` and leave it running; standard error comes in the same pipe."""
        return subprocess.Popen(
            [COMMAND, *args],
            cwd=self.path, env=self.env, text=True, bufsize=1,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip


class Inside(Folder):
    """The same, called in this process: many times faster, and leaks are found by pytest."""

    def __call__(
        self, *args: str, stdin: str = "", env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        before, path, given = dict(os.environ), list(sys.path), sys.stdin
        out, err = io.StringIO(), io.StringIO()
        os.environ.clear()
        os.environ.update(self.env | (env or {}))
        sys.stdin = io.StringIO(stdin)
        try:
            with chdir(self.path), redirect_stdout(out), redirect_stderr(err):
                code = run(list(args))
        finally:
            sys.stdin = given
            os.environ.clear()
            os.environ.update(before)
            sys.path[:] = path
            for name in [name for name, found in sys.modules.items() if self._holds(found)]:
                del sys.modules[name]
        return subprocess.CompletedProcess(args, code, out.getvalue(), err.getvalue())

    def _holds(self, module: ModuleType) -> bool:
        """Whether a module was loaded from this folder; the next test has its own of that name."""
        return str(getattr(module, "__file__", None) or "").startswith(f"{self.path}{os.sep}")

    @property
    def outside(self) -> Folder:
        """The same folder, with a process of its own for each command."""
        return Folder(self.path)


@pytest.fixture
def gatebook(tmp_path: Path) -> Inside:
    """The command, in a fresh folder with an app."""
    return Inside(tmp_path)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Inside:
    """The command, in a folder whose store holds a run of every kind; tests only read it."""
    folder = Inside(tmp_path_factory.mktemp("kept"))
    for args in (
        ("app:pay", "17", "--run-id", "paid", "--label", "team=desk"),
        ("app:ask", "--run-id", "asks"),
        ("app:unsure", "17", "--run-id", "unsure"),
        ("app:fails", "17", "--run-id", "failed"),
        ("app:support", "What does order 17 cost?", "--run-id", "agent"),
    ):
        folder("run", *args, *ALLOW)
    return folder


@pytest.fixture(scope="module")
def governed(tmp_path_factory: pytest.TempPathFactory) -> Inside:
    """The command, in a folder with policies and runs under some of them; tests only read it."""
    folder = Inside(tmp_path_factory.mktemp("governed"))
    write(
        folder.path, reads=READS, small=READS + SMALL, denies=READS + SMALL + NO_REFUNDS,
        tight=READS + SMALL + "[budgets]\ntool_calls = 1\n",
    )  # fmt: skip
    for target, run_id, policy in (
        ("app:pay", "paid", ALLOW),
        ("app:pay", "small", ("--policy", "small.toml")),
        ("app:pay", "denied", ("--policy", "reads.toml")),
        ("app:pay", "refused", ("--policy", "denies.toml")),
        ("app:pay", "spent", ("--policy", "tight.toml")),
        ("app:support", "agent", ("--policy", "reads.toml")),
    ):
        folder("run", target, "17", "--run-id", run_id, *policy)
    return folder
