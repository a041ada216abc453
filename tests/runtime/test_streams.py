"""Streamed answers at the runtime: what readers see, and when an attempt may be repeated."""

import asyncio
from typing import Any

import pytest
from tests.runtime.kit import (
    RUN,
    Desk,
    LoopClock,
    Model,
    eventually,
    flow,
    handle_of,
    run,
    run_jumping,
    said,
)

from gatebook.errors import ActionError, ProviderError
from gatebook.kernel.events import ActionFailed, AttemptFailed
from gatebook.kernel.messages import MessageEnd, MessageStart, TextDelta
from gatebook.kernel.policies import AllowDeclared, RetryWithBackoffPolicy
from gatebook.ports import RunKey
from gatebook.runtime.runs.states import Finished
from gatebook.runtime.subscriptions import BACKLOG, Delta, Hub, Lagged, Progress, Reset

QUICK = RetryWithBackoffPolicy(AllowDeclared(), 3, 0)


def busy() -> ProviderError:
    return ProviderError("busy", kind="transient", category="overloaded", phase="response")


async def asking(ctx: Any) -> str:
    try:
        return str((await ctx.call_llm("fake:m", "hi")).text)
    except ActionError as exc:
        return f"{exc.fields.get('category')} {exc.fields.get('partial')}"


async def heard(desk: Desk, model: Model) -> tuple[Any, list[Any]]:
    """The end of one model call, and what a live reader saw of it."""
    seen: list[Any] = []
    async with desk.open(providers={"fake": model}) as runtime:
        handle = await runtime.start(flow(asking, models=["fake:m"]), None, run_id="r")

        async def listen() -> None:
            seen.extend([item async for item in handle.live()])

        listening = asyncio.create_task(listen())
        state = await desk.settled(handle)
        await desk.clock.until(listening)
    await desk.journal.open()
    return state, seen


@pytest.mark.parametrize("before", [[], [MessageStart("m")], [MessageStart("m"), TextDelta(0, "")]])
def test_an_error_before_output_is_retried_unseen(before: list[Any]) -> None:
    """A reader must not be shown what is taken back."""

    async def scenario() -> None:
        desk, model = Desk(policy=QUICK), Model([*before, busy()], said("hello"))

        state, seen = await heard(desk, model)

        assert state == Finished("hello")
        kinds = [type(item.event).__name__ for item in seen]
        assert kinds == ["MessageStart", "TextDelta", "MessageEnd"]
        assert [call.attempt for call in model.calls] == [0, 1]
        assert len({call.idempotency_key for call in model.calls}) == 1

    run(scenario())


def test_an_error_after_output_is_not_retried_and_keeps_what_came() -> None:
    """What was shown was shown; the error carries it."""

    async def scenario() -> None:
        desk = Desk(policy=QUICK)
        model = Model([MessageStart("m"), TextDelta(0, "half an "), busy()], said("never"))

        state, seen = await heard(desk, model)

        assert state == Finished("overloaded half an ")
        assert len(model.calls) == 1
        error = (await desk.only("r", ActionFailed)).error
        assert error.partial == "half an "
        assert len([item for item in seen if isinstance(item.event, MessageStart)]) == 1

    run(scenario())


def test_a_stream_without_its_end_is_no_answer() -> None:
    """A cut connection looks like an end to every client that does not check."""

    async def scenario() -> None:
        desk = Desk(policy=QUICK)
        model = Model([MessageStart("m"), TextDelta(0, "looks whole.")])

        state, _ = await heard(desk, model)

        assert state == Finished("truncated looks whole.")

    run(scenario())


def test_a_silent_model_is_timed_out_and_asked_again() -> None:
    """Nothing was shown, so nothing is taken back."""

    async def scenario() -> None:
        desk = Desk(policy=QUICK, clock=LoopClock())
        model = Model([asyncio.Event().wait], said("hello"))

        async def body(ctx: Any) -> str:
            return str((await ctx.call_llm("fake:m", "hi", timeout=5)).text)

        async with desk.open(providers={"fake": model}) as runtime:
            handle = await runtime.start(flow(body, models=["fake:m"]), None, run_id="r")
            state = await handle.settled()

            assert state == Finished("hello")
            assert (await desk.only("r", AttemptFailed)).error.category == "timeout"

    run_jumping(scenario())


def test_a_model_that_falls_silent_after_output_is_not_asked_again() -> None:
    """A timeout is an error like any other: after output it is final."""

    async def scenario() -> None:
        desk = Desk(policy=QUICK, clock=LoopClock())
        model = Model([MessageStart("m"), TextDelta(0, "well"), asyncio.Event().wait], said("x"))

        async def body(ctx: Any) -> str:
            try:
                return str((await ctx.call_llm("fake:m", "hi", timeout=5)).text)
            except ActionError as exc:
                return f"{exc.fields.get('category')} {exc.fields.get('partial')}"

        async with desk.open(providers={"fake": model}) as runtime:
            handle = await runtime.start(flow(body, models=["fake:m"]), None, run_id="r")
            state = await handle.settled()

        assert (state, len(model.calls)) == (Finished("timeout well"), 1)

    run_jumping(scenario())


def test_an_adapter_that_breaks_fails_the_call_only() -> None:
    """A bug in an adapter is one action's failure, not the worker's."""

    async def scenario() -> None:
        desk = Desk(policy=QUICK)

        async def body(ctx: Any) -> str:
            try:
                return str((await ctx.call_llm("fake:m", "hi")).text)
            except ActionError as exc:
                return str(exc)

        async with desk.open(providers={"fake": Model([KeyError("choices")])}) as runtime:
            handle = await runtime.start(flow(body, models=["fake:m"]), None)
            state = await desk.settled(handle)

        assert isinstance(state, Finished)
        assert "KeyError" in state.output

    run(scenario())


@pytest.mark.parametrize(
    "error", [KeyError("bug"), ConnectionResetError("late"), busy(), asyncio.CancelledError()]
)
def test_what_breaks_after_the_answer_costs_no_answer(error: BaseException) -> None:
    """It was whole and paid for; another attempt would be paid again."""
    model = Model([*said("well"), error])

    state, _ = run(heard(Desk(policy=QUICK), model))

    assert (state, len(model.calls)) == (Finished("well"), 1)


def test_text_comes_as_it_is_written() -> None:
    """A reader sees the answer grow, not appear."""

    async def scenario() -> None:
        desk = Desk()
        go = asyncio.Event()
        pieces: list[Any] = [MessageStart("m"), TextDelta(0, "one "), go.wait, TextDelta(0, "two")]
        model = Model([*pieces, MessageEnd("stop", "stop", None)])
        got: list[Any] = []
        async with desk.open(providers={"fake": model}) as runtime:
            handle = await runtime.start(flow(asking, models=["fake:m"]), None)

            async def read() -> None:
                async for part in handle.text():
                    got.append(part)

            reading = asyncio.create_task(read())
            await eventually(lambda: got, "the first words")
            early = list(got)
            go.set()
            await desk.clock.until(reading)

        assert (early, got) == (["one "], ["one ", "two"])

    run(scenario())


def test_a_late_reader_gets_the_text_from_the_journal() -> None:
    """Also in another process, after the end."""

    async def scenario() -> None:
        desk = Desk()
        await heard(desk, Model(said("the answer")))

        async with desk.open() as runtime:
            handle = handle_of(runtime)
            got = [part async for part in handle.text()]

        assert got == ["the answer"]

    run(scenario())


async def read_all(handle: Any) -> str:
    """The text a reader ends up with, who drops what it is told to drop."""
    text = ""
    async for part in handle.text():
        text = "" if isinstance(part, Reset) else text + part
    return text


def test_a_reader_that_was_too_slow_still_gets_the_whole_answer() -> None:
    """A gap in the middle of a sentence is worse than a late sentence."""

    async def scenario() -> None:
        desk = Desk()
        go = asyncio.Event()
        many = [TextDelta(0, f"{n} ") for n in range(BACKLOG + 50)]
        whole = "first " + "".join(piece.text for piece in many)
        said_all: list[Any] = [MessageStart("m"), TextDelta(0, "first "), go.wait, *many]
        model = Model([*said_all, MessageEnd("stop", "stop", None)])
        async with desk.open(providers={"fake": model}) as runtime:
            handle = await runtime.start(flow(asking, models=["fake:m"]), None)
            reading = asyncio.create_task(read_all(handle))
            await desk.clock.settle()
            go.set()

            assert await desk.clock.until(reading) == whole

    run(scenario())


def delta(index: int, *, attempt: int = 0, text: str = "x") -> Delta:
    return Delta("0", attempt, index, TextDelta(0, text))


def test_a_new_attempt_resets_what_was_shown() -> None:
    """After a crash another attempt writes the answer anew."""
    hub = Hub()
    with hub.subscribe(RUN) as reader:
        hub.publish(RUN, delta(0))
        hub.publish(RUN, delta(0, attempt=1))

        got = reader.drain()

    assert got == [delta(0), Reset("0", 1), delta(0, attempt=1)]


def test_a_late_subscriber_catches_up_with_the_current_attempt() -> None:
    """Joining in the middle shows the beginning too, once, and not the attempt before."""
    hub = Hub()
    hub.publish(RUN, delta(0))
    hub.publish(RUN, delta(0, attempt=1))
    hub.publish(RUN, delta(1, attempt=1))

    with hub.subscribe(RUN) as reader:
        got = reader.drain()

    assert got == [delta(0, attempt=1), delta(1, attempt=1)]


def test_what_is_in_the_journal_is_no_longer_kept() -> None:
    """Memory holds the answers that are being written, not all that were."""
    hub = Hub()
    hub.publish(RUN, delta(0))
    hub.settled(RUN, "0")

    with hub.subscribe(RUN) as reader:
        assert reader.drain() == []


def test_a_slow_reader_is_told_and_blocks_nobody() -> None:
    """Bounded memory, no silence: it lost so many, and the journal has the answer."""
    hub = Hub()
    with hub.subscribe(RUN) as reader:
        for index in range(BACKLOG + 5):
            hub.publish(RUN, delta(index))

        got = reader.drain()

    assert got[0] == Lagged(5)
    assert (len(got), got[1]) == (BACKLOG + 1, delta(5))


def test_readers_of_other_runs_hear_nothing() -> None:
    """A run's words are its own."""
    hub = Hub()
    with hub.subscribe(RunKey("other", "r")) as reader:
        hub.publish(RUN, Progress("0", 1, 2, "half"))

        assert reader.drain() == []


def test_a_reader_that_left_is_forgotten() -> None:
    """A hub that keeps its readers keeps everything they were sent."""
    hub = Hub()
    with hub.subscribe(RUN):
        pass

    assert hub._subscribers == {}
