"""Section F, 76 to 80: policies that raise, answer nonsense, take too long, or are wrong files."""

from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest

from gatebook import ActionDenied, ConfigError, Decision, Finished, Policy, tool
from gatebook.kernel.events import ActionDenied as DeniedEvent
from tests.catalogue.kit import Desk, legible, told, written
from tests.runtime.kit import flow, run

CALLED: list[int] = []
PERMIT = """version = 1
[[rule]]
id = "look"
then = "allow"
tool = "look"
"""


@pytest.fixture(autouse=True)
def _nothing_called() -> None:
    CALLED.clear()


@tool(effect="read")
async def look(n: int = 0) -> int:
    """Look."""
    CALLED.append(n)
    return n


class Says(Policy):
    """Answers with what it is given, or raises it; that `takes` seconds of a desk's time."""

    def __init__(self, answer: Any, *, desk: Desk | None = None, takes: float = 0) -> None:
        self.answer, self.desk, self.takes = answer, desk, takes

    def authorize(self, action: Any, context: Any) -> Any:
        if self.desk is not None:
            self.desk.clock.advance(self.takes)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


async def denied(desk: Desk, policy: Policy) -> DeniedEvent:
    """The one denial of a run under a policy; the program saw its text too, and nothing ran."""

    async def body(ctx: Any) -> Any:
        try:
            return await ctx.call_tool(look)
        except ActionDenied as exc:
            return exc.message

    async with desk.open(policy=policy) as runtime:
        handle = await runtime.start(flow(body, look), None, run_id="r")
        state = await desk.settled(handle)
    event = await desk.only("r", DeniedEvent)
    assert state == Finished(event.error.message)
    assert CALLED == []
    return event


async def refused(path: Path) -> ConfigError:
    """What is said to a runtime with this policy when it opens; nothing is written."""

    async def body(ctx: Any) -> Any:
        return await ctx.call_tool(look)

    desk = Desk()
    with chdir(path.parent), pytest.raises(ConfigError) as caught:
        async with desk.open(flow(body, look), policy=path):
            pass
    await desk.journal.open()
    assert await written(desk.journal) == 0
    return caught.value


def test_76_a_policy_that_raises() -> None:
    """Its own words stay in its process; a person reads where to look."""
    event = run(denied(Desk(), Says(KeyError("hunter2"))))

    legible(event.error.message, "E_POLICY_ERROR", "KeyError")
    assert "hunter2" not in event.error.message


@pytest.mark.parametrize("answer", [None, "yes", 1, True, {"verdict": "allow"}])
def test_77_a_policy_that_does_not_answer_with_a_decision(answer: Any) -> None:
    """Truth is no permission."""
    event = run(denied(Desk(), Says(answer)))

    legible(event.error.message, "E_POLICY_DECISION", "Decision.allow()")


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        (PERMIT + 'owner = "me"\n', "E_POLICY_KEY", ("p.toml:6", "'owner'")),
        (PERMIT.replace("allow", "permit"), "E_POLICY_VALUE", ("p.toml:4", "'permit'")),
        (PERMIT + "where = { ages = { gt = 1 } }\n", "E_POLICY_FACT", ("p.toml:6", "'ages'")),
        (PERMIT + PERMIT.removeprefix("version = 1\n"), "E_POLICY_DUPLICATE",
         ("p.toml:6", "p.toml:2", "'look'")),
        (PERMIT + "[[rule]", "E_POLICY_SYNTAX", ("p.toml:6",)),
        (PERMIT.replace('"look"\n', '"lok"\n', 2), "E_POLICY_TOOL", ("p.toml:2", "look")),
        (PERMIT + 'where = { "args.m" = { gt = 1 } }\n', "E_POLICY_PATH", ("p.toml:6", "args.n")),
        (PERMIT + '[[rule]]\nid = "d"\nthen = "deny"\ntool = "*"\n', "E_POLICY_UNREACHABLE",
         ("p.toml:2", "p.toml:6")),
    ],
)  # fmt: skip
def test_78_a_policy_file_that_is_wrong(
    tmp_path: Path, text: str, code: str, says: tuple[str, ...]
) -> None:
    """Before anything runs, with its line and what would do."""
    path = tmp_path / "p.toml"
    path.write_text(text)

    told(run(refused(path)), code, *says)


def test_79_a_policy_file_that_is_missing(tmp_path: Path) -> None:
    """No file is not no rules: nothing runs."""
    told(run(refused(tmp_path / "p.toml")), "E_POLICY_MISSING", "p.toml", "No such file")


def test_80_a_policy_that_is_slower_than_its_limit() -> None:
    """What it said then does not count."""
    desk = Desk()

    event = run(denied(desk, Says(Decision.allow(), desk=desk, takes=7.5)))

    legible(event.error.message, "E_POLICY_TIMEOUT", "7.5", "5.0")
