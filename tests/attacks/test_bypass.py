"""No way round the gate: an effect has a committed request for its very bytes, on every road."""

import ast
import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

import gatebook
from gatebook import RETRY, AllowDeclared, Change, Transient, hook, tool
from gatebook.errors import ActionError, ConfigError
from gatebook.kernel.actions import action_digest
from gatebook.kernel.codec import idempotency_key
from gatebook.kernel.events import (
    ActionFailed,
    ActionRequested,
    ActionSucceeded,
    AttemptStarted,
    RunStarted,
)
from gatebook.kernel.policies import RetryWithBackoffPolicy
from gatebook.kernel.policy import Decision, Policy
from gatebook.kernel.tools import ToolSpec
from gatebook.ports import Invocation, RunKey
from gatebook.runtime.performing.executor import Permit
from gatebook.runtime.runs.states import Failed, Finished
from tests.runtime.kit import Desk, eventually, flow, run

SOURCE = Path(gatebook.__file__).parent
RUN = RunKey("default", "r")


class Witness:
    """A foreign tool, of the shape of an adapter's, that looks into the journal when it is called.

    Attributes:
        seen: what it was called with, one entry a call.
        wrong: every call that the journal does not vouch for.
    """

    def __init__(self, desk: Desk, *, effect: Any = "read", ends: list[Any] | None = None) -> None:
        self.desk, self.effect = desk, effect
        self.ends = list(ends or [])
        self.seen: list[bytes] = []
        self.wrong: list[str] = []

    @property
    def spec(self) -> ToolSpec:
        """What it says of itself: anew each time, as an adapter may."""
        schema = msgspec.Raw(b'{"type":"object"}')
        return ToolSpec(name="crm.find", description="Find.", schema=schema, effect=self.effect)

    def validate(self, args: bytes) -> bytes:
        """Take anything."""
        return args

    async def call(self, args: bytes, invocation: Invocation) -> bytes:
        """Look, then end as told: with a result, an error, or never."""
        self.seen.append(args)
        self.wrong += await self._objections(args, invocation)
        end = self.ends.pop(0) if self.ends else None
        if isinstance(end, BaseException):
            raise end
        if end is not None:
            await end.wait()
        return b'"found"'

    async def _objections(self, args: bytes, invocation: Invocation) -> list[str]:
        recorded = await self.desk.journal.read(RUN)
        events: list[Any] = [each.event for each in recorded]
        started = events[0]
        assert isinstance(started, RunStarted)
        key = invocation.idempotency_key()
        mine = [
            e for e in events
            if isinstance(e, ActionRequested)
            and idempotency_key("default", "r", started.nonce, e.address) == key
        ]  # fmt: skip
        if len(mine) != 1:
            return [f"{len(mine)} requests for its key"]
        (request,) = mine
        same = msgspec.structs.replace(request.action, args=msgspec.Raw(args))
        about = [e for e in events if getattr(e, "address", None) == request.address]
        tries = [e.attempt for e in about if isinstance(e, AttemptStarted)]
        said = []
        if action_digest(same) != action_digest(request.action):
            said.append("other bytes than were requested")
        if request.decision.verdict not in ("allow", "modify"):
            said.append(f"it was decided {request.decision.verdict}")
        if (tries[-1] if tries else 0) != invocation.attempt:
            said.append(f"attempt {invocation.attempt}, and the journal has {tries}")
        if any(isinstance(e, ActionSucceeded | ActionFailed) for e in about):
            said.append("it has ended already")
        return said

    def decode(self, output: bytes) -> Any:
        """Read plain JSON."""
        return msgspec.json.decode(output)


def asking(witness: Witness, *queries: Any) -> Any:
    """A workflow that asks for these, one after the other; the code of what fails."""

    async def body(ctx: Any) -> list[str]:
        found = []
        for query in queries:
            try:
                found.append(await ctx.call_tool(witness, query=query))
            except ActionError as exc:
                found.append(exc.code)
        return found

    return flow(body, witness, name="asking")


def test_a_foreign_tool_is_called_for_a_committed_request() -> None:
    """It is no function of ours, and passes the same gate."""

    async def scenario() -> None:
        desk = Desk()
        witness = Witness(desk)
        async with desk.open() as runtime:
            handle = await runtime.start(asking(witness, "a", {"b": [1]}), None, run_id="r")
            state = await desk.settled(handle)

        assert state == Finished(["found", "found"])
        assert (len(witness.seen), witness.wrong) == (2, [])

    run(scenario())


def test_a_foreign_tool_that_no_rule_allows_is_not_called() -> None:
    """To be an object of the right shape is no permission."""

    async def scenario() -> None:
        desk = Desk(Policy())
        witness = Witness(desk)
        async with desk.open() as runtime:
            await desk.settled(await runtime.start(asking(witness, "a"), None, run_id="r"))

        assert witness.seen == []

    run(scenario())


def test_many_at_once_have_each_a_request() -> None:
    """One append for all of them, and before any."""

    async def scenario() -> None:
        desk = Desk()
        witness = Witness(desk)

        async def body(ctx: Any) -> Any:
            return await ctx.gather(*(ctx.call_tool(witness, query=n) for n in range(50)))

        async with desk.open() as runtime:
            await desk.settled(await runtime.start(flow(body, witness), None, run_id="r"))

        assert (len(set(witness.seen)), witness.wrong) == (50, [])

    run(scenario())


def test_what_a_policy_changed_is_what_was_requested() -> None:
    """Not what the program asked for."""

    class Lower(Policy):
        def authorize(self, action: Any, context: Any) -> Decision:
            if action.arguments["query"] == "low":
                return Decision.allow()
            return Decision.modify({"query": "low"})

    async def scenario() -> None:
        desk = Desk(Lower())
        witness = Witness(desk)
        async with desk.open() as runtime:
            await desk.settled(await runtime.start(asking(witness, "HIGH"), None, run_id="r"))

        assert (witness.seen, witness.wrong) == ([b'{"query":"low"}'], [])

    run(scenario())


def test_what_a_hook_changed_is_decided_and_requested() -> None:
    """A hook hands over arguments, and no permission."""

    class NoHigh(Policy):
        def authorize(self, action: Any, context: Any) -> Decision:
            if action.arguments["query"] == "HIGH":
                return Decision.deny("not that")
            return Decision.allow()

    def changing(to: str) -> Any:
        @hook("before_tool", rights=["change"], timeout=5, on_failure="closed", name="changing")
        async def change(view: Any) -> Any:
            return Change({"query": to})

        return change

    async def scenario(to: str) -> tuple[Any, Witness]:
        desk = Desk(NoHigh())
        witness = Witness(desk)
        async with desk.open(hooks=[changing(to)]) as runtime:
            handle = await runtime.start(asking(witness, "a"), None, run_id="r")
            state = await desk.settled(handle)
        return state, witness

    lower, allowed = asyncio.run(scenario("low"))
    higher, denied = asyncio.run(scenario("HIGH"))

    assert (lower, allowed.seen, allowed.wrong) == (Finished(["found"]), [b'{"query":"low"}'], [])
    assert (higher, denied.seen) == (Finished(["E_POLICY_DENIED"]), [])


def test_each_retry_has_an_attempt_of_its_own_in_the_journal() -> None:
    """Before it starts, not after."""

    async def scenario() -> None:
        desk = Desk(RetryWithBackoffPolicy(AllowDeclared(), 3, 1))
        witness = Witness(desk, ends=[Transient("busy"), Transient("busy"), None])
        async with desk.open() as runtime:
            handle = await runtime.start(asking(witness, "a"), None, run_id="r")
            state = await desk.settled(handle)

        assert state == Finished(["found"])
        assert (len(witness.seen), witness.wrong) == (3, [])

    run(scenario())


def test_a_retry_that_policy_does_not_allow_any_more_does_not_start() -> None:
    """It is decided again each time."""

    class Once(Policy):
        def authorize(self, action: Any, context: Any) -> Decision:
            return Decision.allow() if context.attempt == 0 else Decision.deny("once is enough")

    async def scenario() -> None:
        desk = Desk(RetryWithBackoffPolicy(Once(), 3, 1))
        witness = Witness(desk, ends=[Transient("busy")])
        async with desk.open() as runtime:
            handle = await runtime.start(asking(witness, "a"), None, run_id="r")
            await desk.settled(handle)

        assert (len(witness.seen), witness.wrong) == (1, [])

    run(scenario())


@pytest.mark.parametrize(
    ("effect", "called"), [("idempotent", 2), ("read", 2), ("at_most_once", 1)]
)
def test_recovery_starts_nothing_the_journal_does_not_know(effect: Any, called: int) -> None:
    """The worker died in the middle of the call; the next one asks the gate again, or a person."""

    async def scenario() -> None:
        desk = Desk()
        never = asyncio.Event()
        witness = Witness(desk, effect=effect, ends=[never])
        program = asking(witness, "a")
        runtime = desk.runtime(program)
        await runtime.open()
        await runtime.start(program, None, run_id="r")
        await eventually(lambda: witness.seen, "the call began")
        await desk.crash(runtime)
        desk.lapse()
        async with desk.open(program) as second:
            await desk.settled(second.handle("r"))

        assert (len(witness.seen), witness.wrong) == (called, [])

    run(scenario())


def test_a_start_that_a_person_orders_is_an_attempt_in_the_journal() -> None:
    """Also of what may run only once."""

    async def scenario() -> None:
        desk = Desk()
        witness = Witness(desk, effect="at_most_once", ends=[OSError("reset"), None])
        async with desk.open() as runtime:
            handle = await runtime.start(asking(witness, "a"), None, run_id="r")
            await desk.settled(handle)
            await handle.resolve("0", RETRY, by="ann")
            state = await desk.settled(handle)

        assert state == Finished(["found"])
        assert (len(witness.seen), witness.wrong) == (2, [])

    run(scenario())


def test_a_run_that_goes_on_elsewhere_calls_nothing_again() -> None:
    """Its past is read, not done."""

    async def scenario() -> None:
        desk = Desk()
        witness = Witness(desk)

        async def body(ctx: Any) -> Any:
            await ctx.call_tool(witness, query="a")
            await ctx.wait_signal("go")
            return await ctx.call_tool(witness, query="b")

        program = flow(body, witness, name="asking")
        async with desk.open() as runtime:
            await desk.settled(await runtime.start(program, None, run_id="r"))
        async with desk.open(program) as runtime:
            await runtime.handle("r").signal("go")
            await desk.settled(runtime.handle("r"))

        assert witness.seen == [b'{"query":"a"}', b'{"query":"b"}']
        assert witness.wrong == []

    run(scenario())


class Odd(Witness):
    """A foreign tool that answers what it should not."""

    def __init__(self, desk: Desk, **answers: Any) -> None:
        super().__init__(desk)
        self.answers = answers

    def validate(self, args: bytes) -> Any:
        """Answer as told."""
        answer = self.answers.get("validate", args)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    async def call(self, args: bytes, invocation: Invocation) -> Any:
        """Answer as told."""
        self.seen.append(args)
        return self.answers.get("call", b"null")


ODD_OUTPUTS = [
    b"nope", b"", b"[1,]", b'{"a":NaN}', b'{"a":1,"a":2}', b"\xff", b'"\\ud800"', "text", None, 7,
    b'null,"address":"9"', b'null}\n{"kind":"run_completed"', b'1,"v":1,"time":0,"epoch":9}',
    b"[" * 100_000, b'"' + b"x" * 9_000_000 + b'"', b"1e999",
]  # fmt: skip


@pytest.mark.parametrize("output", ODD_OUTPUTS, ids=range(len(ODD_OUTPUTS)))
def test_what_a_foreign_tool_returns_cannot_break_or_forge_the_journal(output: Any) -> None:
    """Its bytes become part of an event: they are one JSON value, or an error."""

    async def scenario() -> None:
        desk = Desk()
        odd = Odd(desk, call=output)
        async with desk.open() as runtime:
            handle = await runtime.start(asking(odd, "a"), None, run_id="r")
            state: Any = await desk.settled(handle)
            kinds = await desk.kinds("r")

        assert state.output[0] in ("E_RESULT_TYPE", "E_RESULT_TOO_LARGE")
        assert kinds == ["run_started", "action_requested", "action_failed", "run_completed"]

    run(scenario())


ODD_ARGUMENTS = [
    RuntimeError("broken"), None, "text", b"nope", b"[1]", b'{"a":1,"a":2}', b'{"a":1},"tool":"x"',
    b'{"a":NaN}', b"null",
]  # fmt: skip


@pytest.mark.parametrize("answer", ODD_ARGUMENTS, ids=range(len(ODD_ARGUMENTS)))
def test_what_a_foreign_tool_makes_of_its_arguments_cannot_either(answer: Any) -> None:
    """They are what is decided about, and recorded."""

    async def scenario() -> None:
        desk = Desk()
        odd = Odd(desk, validate=answer)
        async with desk.open() as runtime:
            handle = await runtime.start(asking(odd, "a"), None, run_id="r")
            state: Any = await desk.settled(handle)
            kinds = await desk.kinds("r")

        assert state.output[0][:2] == "E_"
        assert odd.seen == []
        assert kinds == ["run_started", "action_denied", "run_completed"]

    run(scenario())


def test_a_foreign_tool_whose_definition_cannot_be_read_any_more_is_not_called() -> None:
    """Nobody can say what it is now."""

    class Vanishing(Witness):
        gone = False

        @property
        def spec(self) -> ToolSpec:
            if self.gone:
                raise RuntimeError("the server is gone")
            return super().spec

    async def scenario() -> None:
        desk = Desk()
        witness = Vanishing(desk)

        async def body(ctx: Any) -> str:
            await ctx.wait_signal("go")
            try:
                return str(await ctx.call_tool(witness, query="b"))
            except ActionError as exc:
                return exc.code

        program = flow(body, witness)
        async with desk.open() as runtime:
            handle = await runtime.start(program, None, run_id="r")
            await desk.settled(handle)
            witness.gone = True
            await handle.signal("go")
            await desk.settled(handle)

        assert witness.seen == []

    run(scenario())


@pytest.mark.parametrize(
    "facts",
    [{"effect": "harmless"}, {"schema": msgspec.Raw(b"{")}, {"schema": b"{}"},
     {"sends": "no"}, {"schema": msgspec.Raw(b"[]")}, {"timeout_ms": "soon"}],
)  # fmt: skip
def test_a_foreign_tool_with_an_odd_spec_is_refused_when_it_is_declared(facts: Any) -> None:
    """What it says is what is decided on."""

    class Strange(Witness):
        @property
        def spec(self) -> ToolSpec:
            return msgspec.structs.replace(super().spec, **facts)

    with pytest.raises(ConfigError) as caught:
        asking(Strange(Desk()), "a")

    assert caught.value.code == "E_TOOL_DECLARATION"


@pytest.mark.parametrize("kind", ["async", "sync"])
def test_a_workflow_that_calls_a_tool_itself_is_stopped(kind: str) -> None:
    """The nearest way round the gate, and easily taken by mistake."""

    async def scenario() -> None:
        desk, ran = Desk(), list[int]()

        @tool
        async def slow(n: int) -> None:
            ran.append(n)

        @tool
        def quick(n: int) -> None:
            ran.append(n)

        async def body(ctx: Any) -> None:
            if kind == "async":
                await slow(n=1)
            else:
                quick(n=1)

        async with desk.open() as runtime:
            state = await desk.settled(
                await runtime.start(flow(body, slow, quick), None, run_id="r")
            )

        assert isinstance(state, Failed)
        assert (state.error.code, ran) == ("E_WORKFLOW_TOOL", [])

    run(scenario())


def test_a_tool_may_call_another_tools_function() -> None:
    """Its own call has passed the gate; and a test calls it outside any run."""

    async def scenario() -> None:
        desk = Desk()

        @tool(effect="read")
        async def inner(n: int) -> int:
            return n + 1

        @tool(effect="read")
        async def outer(n: int) -> int:
            return await inner(n=n) + await inner(n)

        async def body(ctx: Any) -> Any:
            return await ctx.call_tool(outer, n=1)

        async with desk.open() as runtime:
            state = await desk.settled(await runtime.start(flow(body, outer), None, run_id="r"))

        assert state == Finished(4)

    run(scenario())


def calls_of(path: Path, *names: str) -> list[str]:
    """Where a source file calls something of these names."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            called = node.func
            name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            if name in names:
                found.append(f"{path.relative_to(SOURCE)}:{name}")
    return found


def test_only_one_place_makes_permits_and_only_one_spends_them() -> None:
    """Whoever adds a second has to change this test, and to say why."""
    kinds: list[type] = [Permit, *Permit.__subclasses__()]

    found = {
        place
        for path in SOURCE.rglob("*.py")
        for place in calls_of(path, *(kind.__name__ for kind in kinds), "perform")
    }

    assert found == {
        "runtime/performing/attempts.py:_Flight",
        "runtime/performing/attempts.py:perform",
    }


def test_only_the_executor_calls_tools_and_models() -> None:
    """Everything else wants, decides or records."""
    found = {
        place
        for room in ("runtime", "programs", "kernel", "engines", "journals", "cli")
        for path in (SOURCE / room).rglob("*.py")
        for place in calls_of(path, "stream", "complete")
        if not place.startswith("runtime/subscriptions")
    }

    assert {place.partition(":")[0] for place in found} <= {"runtime/performing/executor.py"}
