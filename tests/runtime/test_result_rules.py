"""Rules on results: what comes back is changed or withheld before anything sees it."""

import asyncio
from typing import Any

import msgspec
import pytest
from tests.runtime.kit import RUN, Desk, eventually, flow, run
from tests.runtime.results import PHONE, find, finds, on_result, play, ruled

from gatebook import ActionDenied, Decision, Policy, Transient, tool
from gatebook.errors import Conflict
from gatebook.kernel.append import Batch
from gatebook.kernel.codec import NULL, plain
from gatebook.kernel.events import ActionSucceeded, AttemptFailed, Note
from gatebook.ports import Appended, RunKey
from gatebook.runtime.runs.handles import RunHandle
from gatebook.runtime.runs.states import Finished, Waiting
from gatebook.testing.failpoints import FailpointJournal

MASK = on_result("modify", more='redact = { "result.*.phone" = "all" }')


def test_a_withheld_result_is_seen_by_nobody() -> None:
    """Not by the program, not in the journal; that the call was made stays a fact."""
    played = play(
        ruled(on_result("deny", more='message = "people are private"')), flow(finds, find), "ada"
    )
    event = played.succeeded()
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
    more = 'after = "1m"' if then == "defer" else ""
    played = play(ruled(on_result(then, more=more)), flow(finds, find), "ada")

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
    played = play(ruled(MASK), flow(finds, find), "ada")
    event = played.succeeded()

    assert played.state == Finished([{"name": "ada", "phone": "[redacted:policy]"}])
    assert PHONE.encode() not in played.stored
    assert event.decision is not None
    assert (event.decision.verdict, event.decision.rule) == ("modify", "modify")
    assert [op["path"] for op in plain(event.decision.patch)] == ["/0/phone"]


def test_what_was_changed_is_looked_at_again() -> None:
    """A change cannot hide what another rule would withhold, nor open it."""
    again = on_result("deny", more='where = { "result.0.phone" = { glob = "*policy*" } }')

    played = play(ruled(MASK, again), flow(finds, find), "ada")

    assert played.state.output[1] == "E_RESULT_WITHHELD"


def test_a_result_whose_record_was_refused_is_looked_at_whole_again() -> None:
    """What the first look cut out is what the label and the decision stand for."""
    label = (
        '[[label]]\ntool = "find"\nadd = "personal"\n'
        'where = { "result.0.phone" = { glob = "+*" } }\n'
    )

    overtaken = list[Batch]()

    class Overtaken(FailpointJournal):
        async def append(self, run: RunKey, batch: Batch) -> Appended:
            ends = any(isinstance(event, ActionSucceeded) for event in batch.events)
            if ends and not overtaken:
                overtaken.append(batch)
                raise Conflict(tail=(), run=run.id, seq=3, expected=2)
            return await self.inner.append(run, batch)

    async def scenario() -> tuple[Any, ...]:
        desk = Desk(policy=ruled(label, MASK))
        await desk.ran(flow(finds, find), "ada", journal=Overtaken(desk.journal, []))
        (event,) = await desk.all("r", ActionSucceeded)
        assert event.decision is not None
        return len(overtaken), event.labels, event.decision.verdict, bytes(event.output)

    times, labels, verdict, output = run(scenario())

    assert (times, labels, verdict) == (1, ("personal",), "modify")
    assert PHONE.encode() not in output


def test_the_text_of_a_failure_can_be_withheld() -> None:
    """It holds what the service said; the code stays."""
    hold = on_result("deny", more='where = { outcome = { eq = "failed" } }')

    played = play(ruled(hold), flow(finds, find), "nobody")
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

    hold = on_result("deny", "flaky", 'where = { outcome = { eq = "failed" } }')
    played = play(ruled(hold), flow(body, flaky))

    assert played.state == Finished("fine")
    assert len(played.all(AttemptFailed)) == 2
    assert PHONE.encode() not in played.stored


def test_a_shadow_policy_shows_the_result_and_says_what_it_would_have_done() -> None:
    """A trial changes nothing."""
    played = play(ruled(on_result("deny"), top='mode = "shadow"'), flow(finds, find), "ada")
    event = played.succeeded()

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
    played = play(Says(answer), flow(finds, find), "ada")

    assert played.state.output[:2] == ["ActionDenied", "E_RESULT_WITHHELD"]
    assert says in played.state.output[2]
    assert PHONE.encode() not in played.stored


def test_a_result_of_which_no_rule_speaks_is_recorded_as_ever() -> None:
    """Nothing is added to the journal of who does not use it."""
    event = play(ruled(), flow(finds, find), "ada").succeeded()

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
