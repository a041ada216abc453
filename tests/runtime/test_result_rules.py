"""Rules on results: what comes back is labelled, changed or withheld before anything sees it."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from tests.catalogue.kit import calls
from tests.runtime.kit import RUN, Desk, Model, eventually, flow, handle_of, run, said

from gatebook import ActionDenied, Agent, Decision, Permanent, Policy, Succeeded, Transient, tool
from gatebook.kernel.codec import NULL, plain
from gatebook.kernel.events import ActionDenied as ActionDeniedEvent
from gatebook.kernel.events import (
    ActionSucceeded,
    AttemptFailed,
    Note,
)
from gatebook.kernel.messages import MessageStart, TextDelta, ToolResultPart
from gatebook.kernel.rules.policy import RulesPolicy, policy_from
from gatebook.runtime.redrive import final_args, replay
from gatebook.runtime.runs.handles import RunHandle
from gatebook.runtime.runs.states import Failed, Finished, Settled, Waiting

OPEN = """
[[rule]]
id = "tools"
then = "allow"
tool = "*"
[[rule]]
id = "models"
then = "allow"
action = "call_llm"
"""
PHONE = "+49 30 1"


def ruled(*parts: str, top: str = "") -> RulesPolicy:
    """A policy that allows every call and has these rules on results."""
    return policy_from(("p.toml", "\n".join(["version = 1", top, OPEN, *parts])))


def on_result(then: str, tool: str = "find", more: str = "") -> str:
    return f'[[rule]]\nid = "{then}"\non = "result"\nthen = "{then}"\ntool = "{tool}"\n{more}\n'


MASK = on_result("modify", more='redact = { "result.*.phone" = "all" }')


@tool(effect="read")
async def find(name: str) -> list[dict[str, str]]:
    """Find people."""
    if name == "nobody":
        raise Permanent(f"no one with {PHONE}")
    return [{"name": name, "phone": PHONE}]


@tool
async def send(text: str) -> str:
    """Send a text outside."""
    return f"sent {text}"


async def finds(ctx: Any, name: str) -> Any:
    try:
        return await ctx.call_tool(find, name=name)
    except (ActionDenied, Permanent) as exc:
        return [type(exc).__name__, exc.code, str(exc)]


class Played:
    """One run under a policy, and what it left behind."""

    def __init__(self, policy: Any, **options: Any) -> None:
        self.desk = Desk(policy=policy, **options)
        self.state: Any = None
        self.stored = b""
        self.replayed: Any = None

    async def play(
        self,
        program: Any,
        value: Any = None,
        before: Callable[[RunHandle[Any]], Any] | None = None,
        **options: Any,
    ) -> Settled:
        async with self.desk.open(program, **options) as runtime:
            handle = await runtime.start(program, value, run_id="r")
            if before is not None:
                await before(handle)
            self.state = await self.desk.settled(handle)
            recorded = await self.desk.journal.read(RUN)
            self.stored = b"\n".join(msgspec.json.encode(each.event) for each in recorded)
            started: Any = recorded[0].event
            self.replayed = replay(program.begin(started), final_args(program.tools), recorded)
        await self.desk.journal.open()
        return self.state


def test_a_withheld_result_is_seen_by_nobody() -> None:
    """Not by the program, not in the journal; that the call was made stays a fact."""

    async def scenario() -> Played:
        played = Played(ruled(on_result("deny", more='message = "people are private"')))
        await played.play(flow(finds, find), "ada")
        return played

    played = run(scenario())
    event: ActionSucceeded = run(played.desk.only("r", ActionSucceeded))
    name, code, text = played.state.output

    assert (name, code) == ("ActionDenied", "E_RESULT_WITHHELD")
    assert "people are private" in text
    assert "do not repeat it" in text
    assert PHONE.encode() not in played.stored
    assert event.output == NULL
    assert event.decision is not None
    assert (event.decision.verdict, event.decision.rule) == ("deny", "deny")
    assert event.spent is not None
    assert event.spent.tool_calls == 1


@pytest.mark.parametrize("then", ["ask", "defer"])
def test_a_result_nobody_can_wait_for_is_withheld(then: str) -> None:
    """Fail closed."""

    async def scenario() -> Played:
        more = 'after = "1m"' if then == "defer" else ""
        played = Played(ruled(on_result(then, more=more)))
        await played.play(flow(finds, find), "ada")
        return played

    played = run(scenario())

    assert played.state.output[1] == "E_RESULT_WITHHELD"
    assert PHONE.encode() not in played.stored


async def told(ctx: Any, value: Any) -> Any:
    """Wait for a signal and say what came."""
    try:
        return await ctx.wait_signal("go")
    except ActionDenied as exc:
        return ["ActionDenied", exc.code, str(exc)]


async def signals(handle: RunHandle[Any]) -> None:
    await handle.signal("go", PHONE)


@pytest.mark.parametrize(
    ("about", "program", "before"),
    [('tool = "find"', flow(finds, find), None), ('action = "wait_signal"', flow(told), signals)],
)
def test_a_result_can_stop_the_run_for_a_person(about: str, program: Any, before: Any) -> None:
    """Who resumes it lets it go on without the result."""
    stop = f'[[rule]]\nid = "stop"\non = "result"\nthen = "interrupt"\n{about}\n'

    async def scenario() -> tuple[Any, Any, list[str]]:
        desk = Desk(policy=ruled(stop))
        async with desk.open(program) as runtime:
            handle = await runtime.start(program, "ada", run_id="r")
            if before is not None:
                await before(handle)
            waits = await desk.settled(handle)
            kinds = await desk.kinds("r")
            await handle.resume(by="ada")
            return waits, await desk.settled(handle), kinds

    waits, ends, kinds = run(scenario())

    assert isinstance(waits, Waiting)
    assert waits.on == ("resume",)
    assert kinds[-2:] == ["action_succeeded", "interrupted"]
    assert ends.output[1] == "E_RESULT_WITHHELD"


def test_a_result_is_changed_before_anything_sees_it() -> None:
    """The program and the journal have the same bytes; the patch says what was done."""

    async def scenario() -> Played:
        played = Played(ruled(MASK))
        await played.play(flow(finds, find), "ada")
        return played

    played = run(scenario())
    event: ActionSucceeded = run(played.desk.only("r", ActionSucceeded))

    assert played.state == Finished([{"name": "ada", "phone": "[redacted:policy]"}])
    assert PHONE.encode() not in played.stored
    assert event.decision is not None
    assert (event.decision.verdict, event.decision.rule) == ("modify", "modify")
    assert [op["path"] for op in plain(event.decision.patch)] == ["/0/phone"]


def test_what_was_changed_is_looked_at_again() -> None:
    """A change cannot hide what another rule would withhold, nor open it."""
    again = on_result("deny", more='where = { "result.0.phone" = { glob = "*policy*" } }')

    async def scenario() -> Played:
        played = Played(ruled(MASK, again))
        await played.play(flow(finds, find), "ada")
        return played

    assert run(scenario()).state.output[1] == "E_RESULT_WITHHELD"


def test_a_model_reads_why_a_result_is_withheld() -> None:
    """So that it goes on without it instead of calling again."""

    async def scenario() -> list[str]:
        model = Model(calls(("find", '{"name":"ada"}')), said("done"))
        agent = Agent(name="helper", model="fake:m", tools=[find])
        played = Played(ruled(on_result("deny")), providers={"fake": model})
        assert await played.play(agent, "go") == Finished("done")
        return [
            part.content
            for message in model.asked[-1].messages
            for part in message.content
            if isinstance(part, ToolResultPart)
        ]

    (read,) = run(scenario())

    assert "withheld" in read
    assert "E_RESULT_WITHHELD" in read


def test_the_text_of_a_failure_can_be_withheld() -> None:
    """It holds what the service said; the code stays."""
    hold = on_result("deny", more='where = { outcome = { eq = "failed" } }')

    async def scenario() -> Played:
        played = Played(ruled(hold))
        await played.play(flow(finds, find), "nobody")
        return played

    played = run(scenario())
    name, _, text = played.state.output

    assert name == "Permanent"
    assert "withheld" in text
    assert PHONE.encode() not in played.stored


def test_an_attempt_that_is_repeated_tells_no_more_than_the_last() -> None:
    """Its error is in the journal as well."""
    left = [Transient(PHONE), Transient(PHONE)]

    @tool(effect="read")
    async def flaky() -> str:
        if left:
            raise left.pop()
        return "fine"

    async def body(ctx: Any) -> Any:
        return await ctx.call_tool(flaky)

    async def scenario() -> Played:
        hold = on_result("deny", "flaky", 'where = { outcome = { eq = "failed" } }')
        played = Played(ruled(hold))
        await played.play(flow(body, flaky))
        return played

    played = run(scenario())

    assert played.state == Finished("fine")
    assert len(run(played.desk.all("r", AttemptFailed))) == 2
    assert PHONE.encode() not in played.stored


LABELLED = """
[[label]]
tool = "find"
add = "private"
[[rule]]
id = "no-private-out"
then = "deny"
tool = "send"
where = { "seen.label" = { has = "private" } }
"""


async def finds_and_sends(ctx: Any, name: str) -> Any:
    with contextlib.suppress(Permanent):
        await ctx.call_tool(find, name=name)
    await ctx.sleep(3600)
    try:
        return await ctx.call_tool(send, text="x")
    except ActionDenied as exc:
        return exc.code


@pytest.mark.parametrize("name", ["ada", "nobody"])
@pytest.mark.parametrize("crash", [False, True])
def test_labels_of_results_decide_what_comes_after(name: str, crash: bool) -> None:
    """Also of an error's text, and in the process that takes the run up."""

    async def scenario() -> Any:
        desk = Desk(policy=ruled(LABELLED))
        program = flow(finds_and_sends, find, send)
        runtime = desk.runtime(program)
        await runtime.open()
        handle = await runtime.start(program, name, run_id="r")
        await handle.settled()
        if crash:
            await desk.crash(runtime)
            desk.lapse()
        else:
            await runtime.close()
        desk.clock.advance(3601)
        async with desk.open(program) as second:
            state = await desk.settled(handle_of(second))
            (denied,) = await desk.all("r", ActionDeniedEvent)
            ended: list[Any] = [e for e in await desk.events("r") if getattr(e, "labels", ())]
        return state, denied.decision.rule, [e.labels for e in ended]

    assert run(scenario()) == (Finished("E_POLICY_DENIED"), "no-private-out", [("private",)])


def test_a_tool_that_declares_labels_needs_no_rule_for_them() -> None:
    """They are recorded under any policy, so that a later one can ask."""

    @tool(effect="read", returns={"untrusted"})
    async def fetch() -> str:
        return "<p>"

    async def body(ctx: Any) -> Any:
        return await ctx.call_tool(fetch)

    async def scenario(policy: Any) -> tuple[str, ...]:
        played = Played(policy)
        await played.play(flow(body, fetch))
        event: ActionSucceeded = await played.desk.only("r", ActionSucceeded)
        return event.labels

    both = '[[label]]\ntool = "fetch"\nadd = "web"\n'
    assert run(scenario(None)) == ("untrusted",)
    assert run(scenario(ruled())) == ("untrusted",)
    assert run(scenario(ruled(both))) == ("untrusted", "web")


def test_what_a_person_says_came_back_carries_the_tools_labels() -> None:
    """A hand-typed result is not cleaner than the tool's own."""

    @tool(returns={"private"})
    async def vague() -> str:
        raise OSError("reset")

    async def body(ctx: Any) -> Any:
        await ctx.call_tool(vague)
        try:
            return await ctx.call_tool(send, text="x")
        except ActionDenied as exc:
            return exc.code

    async def scenario() -> Any:
        desk = Desk(policy=ruled(LABELLED))
        async with desk.open(flow(body, vague, find, send)) as runtime:
            handle = await runtime.start(flow(body, vague, find, send), None, run_id="r")
            await handle.settled()
            await handle.resolve("0", Succeeded("typed"))
            return await desk.settled(handle)

    assert run(scenario()) == Finished("E_POLICY_DENIED")


def test_an_answer_that_rules_look_at_is_not_shown_while_it_is_written() -> None:
    """What is decided about later must not have been read before."""
    mask = (
        '[[rule]]\nid = "m"\non = "result"\nthen = "modify"\naction = "call_llm"\n'
        'redact = { "result.message.content.*.text" = "all" }\n'
    )

    async def body(ctx: Any) -> Any:
        return (await ctx.call_llm("fake:m", "hi")).text

    async def scenario() -> tuple[Played, list[Any]]:
        shown: list[Any] = []
        reading: list[asyncio.Task[None]] = []

        async def read(handle: RunHandle[Any]) -> None:
            async for part in handle.text():
                shown.append(part)

        async def before(handle: RunHandle[Any]) -> None:
            reading.append(asyncio.ensure_future(read(handle)))

        written = [MessageStart("m"), TextDelta(0, "call +49 "), *said("30 1")[1:]]
        played = Played(ruled(mask), providers={"fake": Model(written)})
        await played.play(flow(body, models=["fake:m"]), before=before)
        await reading[0]
        return played, shown

    played, shown = run(scenario())

    assert played.state == Finished("[redacted:policy]")
    assert shown == ["[redacted:policy]"]
    assert b"30 1" not in played.stored


@pytest.mark.parametrize(
    ("then", "more", "end"),
    [
        ("deny", "", "E_RESULT_WITHHELD"),
        ("modify", 'set = { "result.message" = "x" }', "E_RESULT_WITHHELD"),
    ],
)
def test_an_answer_that_is_withheld_ends_an_agent_as_denied(then: str, more: str, end: str) -> None:
    """There is nothing to go on with; so it is with one changed to what is no answer."""

    async def scenario() -> Played:
        rule = f'[[rule]]\nid = "m"\non = "result"\nthen = "{then}"\naction = "call_llm"\n{more}\n'
        played = Played(ruled(rule), providers={"fake": Model(said("secret plans"))})
        await played.play(Agent(name="helper", model="fake:m"), "go")
        return played

    played = run(scenario())

    assert isinstance(played.state, Failed)
    assert (played.state.denied, played.state.error.code) == (True, end)
    assert b"secret plans" not in played.stored


def test_a_signal_is_a_result_too() -> None:
    """It comes from outside like any other."""
    rules = (
        '[[label]]\naction = "wait_signal"\nadd = "private"\n'
        '[[rule]]\nid = "s"\non = "result"\nthen = "modify"\naction = "wait_signal"\n'
        'drop = "result.note"\n'
    )

    async def body(ctx: Any) -> Any:
        got = await ctx.wait_signal("go")
        try:
            await ctx.call_tool(send, text="x")
        except ActionDenied as exc:
            return [got, exc.code]

    async def signal(handle: RunHandle[Any]) -> None:
        await handle.signal("go", {"yes": True, "note": "x"})

    async def scenario() -> Any:
        played = Played(ruled(rules, LABELLED))
        return await played.play(flow(body, find, send), before=signal)

    assert run(scenario()) == Finished([{"yes": True}, "E_POLICY_DENIED"])


def test_a_shadow_policy_shows_the_result_and_says_what_it_would_have_done() -> None:
    """A trial changes nothing."""

    async def scenario() -> Played:
        played = Played(ruled(on_result("deny"), top='mode = "shadow"'))
        await played.play(flow(finds, find), "ada")
        return played

    played = run(scenario())
    event: ActionSucceeded = run(played.desk.only("r", ActionSucceeded))

    assert played.state == Finished([{"name": "ada", "phone": PHONE}])
    assert event.decision is not None
    assert (event.decision.verdict, event.decision.shadow) == ("allow", "deny")


class Says(Policy):
    """Allows every call and answers results with what it is given."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def authorize(self, action: Any, context: Any) -> Decision:
        return Decision.allow()

    def sees_results(self, action: Any) -> bool:
        return True

    def result(self, action: Any, context: Any, output: Any, *, outcome: Any) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer(output) if callable(self.answer) else self.answer


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (ZeroDivisionError(), "E_POLICY_ERROR"), (None, "E_POLICY_DECISION"),
        (True, "E_POLICY_DECISION"), (Decision("modify"), "E_POLICY_DECISION"),
        (Decision.modify({"a": 1}), "E_MODIFY_LOOP"), (Decision.deny("no"), "no"),
        (Decision.ask(), "the policy answered ask"),
    ],
)  # fmt: skip
def test_a_policy_that_fails_at_a_result_withholds_it(answer: Any, says: str) -> None:
    """Whatever is no clear allow shows nothing."""

    async def scenario() -> Played:
        played = Played(Says(answer))
        await played.play(flow(finds, find), "ada")
        return played

    played = run(scenario())

    assert played.state.output[:2] == ["ActionDenied", "E_RESULT_WITHHELD"]
    assert says in played.state.output[2]
    assert PHONE.encode() not in played.stored


def test_a_result_of_which_no_rule_speaks_is_recorded_as_ever() -> None:
    """Nothing is added to the journal of who does not use it."""

    async def scenario() -> ActionSucceeded:
        played = Played(ruled())
        await played.play(flow(finds, find), "ada")
        event: ActionSucceeded = await played.desk.only("r", ActionSucceeded)
        return event

    event = run(scenario())

    assert (event.labels, event.decision) == ((), None)
    assert b"labels" not in msgspec.json.encode(event)
    assert b"decision" not in msgspec.json.encode(event)


def test_what_a_fenced_worker_learned_is_withheld_from_its_note_too() -> None:
    """A result that comes too late is still a result."""

    async def scenario() -> tuple[str, bytes]:
        desk, go, asked = Desk(policy=ruled(on_result("deny"))), asyncio.Event(), list[str]()

        @tool(name="find", effect="read")
        async def slow(name: str) -> str:
            asked.append(name)
            await go.wait()
            return PHONE

        async def body(ctx: Any) -> Any:
            return await ctx.call_tool(slow, name="ada")

        program = flow(body, slow)
        async with desk.open(program) as runtime:
            await runtime.start(program, None, run_id="r")
            await eventually(lambda: asked, "the tool runs")
            desk.lapse()
            taken = await desk.journal.claim(RUN, owner="o", ttl_ms=3_600_000)
            assert taken is not None
            go.set()
            await desk.clock.settle()
        await desk.journal.open()
        note = await desk.only("r", Note)
        return note.text, bytes(note.detail)

    text, detail = run(scenario())

    assert text == "late outcome of 0 attempt 0"
    assert PHONE.encode() not in detail
