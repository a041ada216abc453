"""Policies from files, where runs begin: what is read, what is refused, before anything runs."""

from pathlib import Path
from typing import Any

import pytest
from tests.runtime.kit import Desk, flow, run

from gatebook import AllowDeclared, ConfigError, Policy, RetryWithBackoffPolicy, tool
from gatebook.kernel.budget import Limits
from gatebook.kernel.events import ActionDenied, ActionRequested, RunStarted
from gatebook.runtime.policy_files import document_of
from gatebook.runtime.runs.states import Finished

READS = """version = 1
name = "desk"
[budgets]
tool_calls = 5
cost_usd = "1.50"
[[rule]]
id = "look"
then = "allow"
tool = "look"
where = { "args.order" = { glob = "17*" } }
"""
PAYS = """version = 1
name = "till"
[budgets]
tool_calls = 3
[[rule]]
id = "pay"
then = "allow"
tool = "pay"
"""


@tool(effect="read")
async def look(order: str) -> str:
    """Look an order up."""
    return f"seen {order}"


@tool
async def pay(order: str) -> str:
    """Pay an order."""
    return f"paid {order}"


async def looks(ctx: Any, order: str) -> Any:
    return await ctx.call_tool(look, order=order)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two policies."""
    (tmp_path / "reads.toml").write_text(READS)
    (tmp_path / "pays.toml").write_text(PAYS)
    return tmp_path


async def played(policy: Any, order: str, *, tools: tuple[Any, ...] = (look,)) -> Any:
    """The desk after one run that looks an order up."""
    desk = Desk()
    async with desk.open(policy=policy) as runtime:
        program = flow(looks, *tools)
        state = await desk.settled(await runtime.start(program, order, run_id="r"))
    await desk.journal.open()
    return desk, state


def test_a_runtime_takes_the_path_of_a_policy(folder: Path) -> None:
    """The shortest way to a governed run, and the journal names what governs it."""

    async def scenario() -> None:
        desk, state = await played(str(folder / "reads.toml"), "17")
        started = await desk.only("r", RunStarted)
        request = await desk.only("r", ActionRequested)

        assert state == Finished("seen 17")
        assert started.policy_name == "desk"
        assert started.policy == Policy.load(folder / "reads.toml").digest
        assert started.limits == Limits(tool_calls=5, usd_micros=1_500_000)
        assert (request.decision.verdict, request.decision.rule) == ("allow", "look")

    run(scenario())


def test_what_no_rule_allows_is_denied_with_its_facts(folder: Path) -> None:
    """The journal says by which rule, and what it saw."""

    async def scenario() -> None:
        policy = folder / "deny.toml"
        policy.write_text(READS + '[[rule]]\nid = "no-18"\nthen = "deny"\ntool = "look"\n'
                          'where = { "args.order" = { eq = "18" } }\n')  # fmt: skip
        desk, _ = await played(policy, "18")
        denied = await desk.only("r", ActionDenied)

        assert (denied.decision.verdict, denied.decision.rule) == ("deny", "no-18")
        assert denied.decision.facts == {"args.order": "18"}

    run(scenario())


def test_several_files_are_one_policy_with_the_smallest_limits(folder: Path) -> None:
    """Whoever adds a file can only narrow what the others limit."""
    both = [folder / "reads.toml", str(folder / "pays.toml")]

    async def scenario() -> None:
        desk, state = await played(both, "17", tools=(look, pay))

        assert state == Finished("seen 17")
        assert (await desk.only("r", RunStarted)).limits == Limits(
            tool_calls=3, usd_micros=1_500_000
        )

    run(scenario())
    assert Policy.load(*both).digest == Policy.load(*reversed(both)).digest


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        (None, "E_POLICY_MISSING", "No such file"),
        (b"\xff\xfe", "E_POLICY_MISSING", "UTF-8"),
        (b"version = 1\n[[rule]\n", "E_POLICY_SYNTAX", "p.toml:2"),
        (b'version = 1\nowner = "me"\n', "E_POLICY_KEY", "p.toml:2"),
        (READS.replace("allow", "permit").encode(), "E_POLICY_VALUE", "p.toml:8"),
        (READS.replace("args.order", "order").encode(), "E_POLICY_FACT", "p.toml:10"),
        (READS.replace('glob = "17*"', "gt = 2, lt = 1").encode(), "E_POLICY_UNREACHABLE",
         "p.toml:10"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_refused_when_the_runtime_opens(
    tmp_path: Path, text: bytes | None, code: str, says: str
) -> None:
    """With its line, and before the store is touched."""
    path = tmp_path / "p.toml"
    if text is not None:
        path.write_bytes(text)

    async def scenario() -> ConfigError:
        desk = Desk()
        with pytest.raises(ConfigError) as caught:
            async with desk.open(policy=path):
                pass
        return caught.value

    error = run(scenario())

    assert error.code == code
    assert says in str(error)


@pytest.mark.parametrize(
    ("before", "after", "code", "line"),
    [
        ('tool = "look"', 'tool = "loook"', "E_POLICY_TOOL", 6),
        ("args.order", "args.oder", "E_POLICY_PATH", 10),
        ('glob = "17*"', "gt = 3", "E_POLICY_PATH", 10),
    ],
)
@pytest.mark.parametrize("registered", [True, False])
def test_a_policy_that_does_not_fit_the_tools_is_refused_before_anything_runs(
    tmp_path: Path, before: str, after: str, code: str, line: int, registered: bool
) -> None:
    """A rule about a name nobody has protects nobody."""
    path = tmp_path / "p.toml"
    path.write_text(READS.replace(before, after))
    program = flow(looks, look)

    async def scenario() -> ConfigError:
        desk = Desk()
        with pytest.raises(ConfigError) as caught:
            async with desk.open(*([program] if registered else []), policy=path) as runtime:
                assert not registered
                await runtime.start(program, "17")
        await desk.journal.open()
        assert await desk.journal.tail("default", after=0, limit=9) == []
        return caught.value

    error = run(scenario())

    assert error.code == code
    assert f"p.toml:{line}" in str(error)


def test_rules_for_other_agents_need_not_fit(tmp_path: Path) -> None:
    """One file may govern programs of several processes; those name their agent."""
    path = tmp_path / "p.toml"
    path.write_text(READS + PAYS.partition("[budgets]\ntool_calls = 3\n")[2] + 'agent = "till-*"\n')

    async def scenario() -> Any:
        _, state = await played(path, "17")
        return state

    assert run(scenario()) == Finished("seen 17")


def test_a_policy_with_retries_around_it_is_checked_as_well() -> None:
    """A wrapper hides nothing."""
    policy = RetryWithBackoffPolicy(AllowDeclared(), 1, 10)

    assert document_of(policy) is None


def test_secrets_of_the_runtime_are_cut_from_recorded_facts(folder: Path) -> None:
    """A policy from a file knows what is secret where it decides."""
    path = folder / "p.toml"
    path.write_text(READS.replace("look", "pay").replace(
        '[[rule]]', '[[rule]]\nid = "big"\nthen = "deny"\ntool = "pay"\nmessage = "not {user}"\n'
        'where = { user = { glob = "*" } }\n[[rule]]'))  # fmt: skip

    async def pays(ctx: Any) -> Any:
        return await ctx.call_tool(pay, order="17")

    async def scenario() -> ActionDenied:
        desk = Desk()
        async with desk.open(policy=path, secrets=["hunter22hunter22"]) as runtime:
            inner = runtime.policy
            assert inner is not None
            program = flow(pays, pay)
            handle = await runtime.start(
                program, None, run_id="r", context={"user": "hunter22hunter22"}
            )
            await desk.settled(handle)
        await desk.journal.open()
        return await desk.only("r", ActionDenied)

    denied = run(scenario())

    assert "hunter22" not in str(denied)
