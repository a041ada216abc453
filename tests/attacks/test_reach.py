"""A9, A10, A11: what a model may name reaches no further than the tool was given."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from gatebook import Agent
from gatebook.kernel.actions import CallTool
from gatebook.kernel.events import ActionDenied, ActionFailed, ActionRequested, ActionSucceeded
from gatebook.runtime.runs.states import Finished
from gatebook.testing.fault_server import FaultServer, answer
from gatebook.tools import files, http, shell
from tests.attacks.kit import calls
from tests.runtime.kit import PATIENCE_S, Desk, Model, said

SECRET = "the-secret-outside"
ASKS = (ActionRequested, ActionDenied)
ENDS = (ActionDenied, ActionFailed, ActionSucceeded)


def asked(tools: Any, name: str, args: list[dict[str, Any]]) -> list[Any]:
    """Have a model call a tool with each of these, and return how the calls ended, in order."""

    async def scenario() -> list[Any]:
        desk, agent = Desk(), Agent(name="a", model="fake:m", tools=list(tools))
        model = Model(calls(*((name, each) for each in args)), said("done"))
        state = await desk.ran(agent, "go", providers={"fake": model})
        events = await desk.events("r")
        assert state == Finished("done")
        ended = {e.address: e for e in events if isinstance(e, ENDS)}
        asks = [e for e in events if isinstance(e, ASKS) and isinstance(e.action, CallTool)]
        asks.sort(key=lambda e: int(str(getattr(e.action, "call_id", "")).removeprefix("c")))
        assert len(asks) == len(args)
        return [ended[e.address] for e in asks]

    return asyncio.run(scenario())


def codes(ended: list[Any]) -> list[str]:
    """The code of each, "" for what went well."""
    return ["" if isinstance(e, ActionSucceeded) else e.error.code for e in ended]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder that tools may read, beside one they may not."""
    inside = tmp_path / "inside"
    inside.mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text(SECRET)
    (inside / "link").symlink_to(tmp_path / "outside" / "secret")
    (inside / "folder").symlink_to(tmp_path / "outside")
    (inside / "gone").symlink_to(tmp_path / "outside" / "not-there-yet")
    return inside


PATHS = [
    "../outside/secret", f"/proc/self/{'root'}/etc/passwd", "link", "folder/secret", "a\0b", "gone",
    "inside/../../outside/secret", "..", "folder/../../outside/secret",
]  # fmt: skip


def test_a09_no_path_leads_out_of_the_folder(root: Path) -> None:
    """Dots, links, /proc, NUL and names that come into being later."""
    ended = asked(files(root), "fs.read", [{"path": path} for path in PATHS])

    assert set(codes(ended)) <= {"E_PATH", "E_FILE"}
    assert SECRET not in str(ended)


def test_a09_nothing_is_written_through_a_link(root: Path) -> None:
    """Not to what it names now, nor to what it will name."""
    wanted = [{"path": path, "text": "x", "overwrite": True} for path in PATHS]

    ended = asked(files(root, write=True), "fs.write", wanted)

    assert set(codes(ended)) <= {"E_PATH", "E_FILE"}
    assert (root.parent / "outside" / "secret").read_text() == SECRET
    assert os.listdir(root.parent / "outside") == ["secret"]


URLS = [
    "http://127.0.0.1/", "http://2130706433/", "http://0x7f000001/", "http://0177.0.0.1/",
    "http://[::ffff:127.0.0.1]/", "http://[::1]/", "http://169.254.169.254/latest/meta-data/",
    "http://good.test@127.0.0.1/", "http://127.0.0.1#good.test", "http://good.test:80@evil.test/",
    "file:///etc/passwd", "gopher://good.test/", "https://evil.test/", "http://g\u043e\u043ed.test/",
]  # fmt: skip


def test_a10_no_url_reaches_a_host_that_is_not_listed() -> None:
    """However it is written, and whatever the name resolves to."""
    looked_up: list[str] = []

    async def resolve(host: str, port: int) -> list[str]:
        looked_up.append(host)
        return ["127.0.0.1"]

    tools = http(["good.test"], schemes=["https", "http"], resolve=resolve)
    wanted = [{"url": url} for url in [*URLS, "http://good.test/"]]

    ended = asked(tools, "http.get", wanted)

    assert set(codes(ended)) <= {"E_HTTP_HOST", "E_HTTP_URL", "E_HTTP_ADDRESS"}
    assert codes(ended)[-1] == "E_HTTP_ADDRESS"
    assert set(looked_up) <= {"good.test"}


def test_a10_a_redirect_to_the_metadata_address_is_not_followed() -> None:
    """Each hop is checked like the first."""
    hop = answer(302, "", location="http://169.254.169.254/latest/meta-data/iam")

    async def scenario() -> None:
        async with asyncio.timeout(PATIENCE_S), FaultServer(hop, answer(200, "")) as server:
            port = server.url.rpartition(":")[2]
            tools = http([f"127.0.0.1:{port}"], schemes=["http"], private=["127.0.0.0/8"])
            agent = Agent(name="a", model="fake:m", tools=list(tools))
            desk = Desk()
            model = Model(calls(("http.get", {"url": server.url})), said("done"))
            await desk.ran(agent, "go", providers={"fake": model})
            failed = await desk.only("r", ActionFailed)

            assert failed.error.code == "E_HTTP_HOST"
            assert server.count == 1

    asyncio.run(scenario())


HOSTILE = ["; id", "$(id)", "`id`", "a && b", "| sh", "> x", "*", "\n id", "-rf", "'\"", "--help"]


def test_a11_what_a_shell_would_read_is_passed_as_it_is(tmp_path: Path) -> None:
    """There is no shell: an argument is one argument."""
    tools = [shell(["printf"], cwd=tmp_path)]
    wanted = [{"argv": ["printf", "%s|", text]} for text in HOSTILE]

    ended = asked(tools, "shell.run", wanted)

    assert [json.loads(bytes(event.output))["stdout"] for event in ended] == [
        f"{text}|" for text in HOSTILE
    ]
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("argv", [["sh", "-c", "id"], ["/bin/sh"], ["printf;id"], ["./printf"]])
def test_a11_no_other_program_is_started(argv: list[str], tmp_path: Path) -> None:
    """The list is of programs, not of beginnings of commands."""
    ended = asked([shell(["printf"], cwd=tmp_path)], "shell.run", [{"argv": argv}])

    assert codes(ended) == ["E_SHELL_PROGRAM"]
