"""Readers that leave and come back: the text of every answer once, in order, in any process.

A reader in another process is one with a client of its own on the same store: it hears nothing of
the worker but what the store holds.
"""

import asyncio
from contextlib import aclosing, suppress
from typing import Any

import pytest
from tests.runtime.kit import RUN, Desk, LoopClock, Model, eventually, flow, run_jumping, said
from tests.runtime.reading import ASKS, WORDS, begun, elsewhere, facts, rest, spoken, written

from gatebook.errors import InvalidInput, ProviderError
from gatebook.kernel.messages import MessageStart, TextDelta
from gatebook.ports import Recorded
from gatebook.runtime.client import Client
from gatebook.runtime.runs.cursors import Shown, cursor_of, place_of
from gatebook.runtime.runs.handles import RunHandle
from gatebook.runtime.subscriptions import Delta, Reset

SECRET = "canary-7f3e91d2b4"


@pytest.mark.parametrize("leave", range(9))
@pytest.mark.parametrize("at", [1, 3])
@pytest.mark.parametrize("late", [False, True], ids=["while it runs", "when it is over"])
@pytest.mark.parametrize("first_here", [True, False], ids=["from here", "from elsewhere"])
def test_a_reader_leaves_anywhere_and_comes_back_in_another_process(
    leave: int, at: int, *, late: bool, first_here: bool
) -> None:
    """Nothing is lost or said twice, though the store holds the answer in other pieces."""

    async def scenario() -> None:
        desk, hold = Desk(clock=LoopClock()), asyncio.Event()
        async with desk.open(
            providers={"fake": Model(spoken(*WORDS, hold=hold, at=at))}
        ) as runtime:
            here = await runtime.start(ASKS, None, run_id="r")
            reading = (here if first_here else elsewhere(desk)).events(deltas=True)
            first: list[Any] = []
            with suppress(TimeoutError):
                async with asyncio.timeout(5), aclosing(reading):
                    while len(first) < leave:
                        first.append(await anext(reading))
            if late:
                hold.set()
                await here.settled()
            second = asyncio.create_task(rest(elsewhere(desk), reading.cursor))
            await asyncio.sleep(1)
            hold.set()
            items = [*first, *await second]

            assert written(items) == "".join(WORDS)
            assert facts(items) == [1, 2, 3, 4]
            assert not [item for item in items if isinstance(item, Reset)]

    run_jumping(scenario())


def test_a_reader_elsewhere_reads_along() -> None:
    """It does not wait for the answer to be whole."""

    async def scenario() -> None:
        desk, hold = Desk(clock=LoopClock()), asyncio.Event()
        async with desk.open(providers={"fake": Model(spoken(*WORDS, hold=hold, at=2))}) as runtime:
            await runtime.start(ASKS, None, run_id="r")
            items, cursor = await begun(elsewhere(desk), upto="one two ")
            running = (await runtime.handle("r").row()).head.terminal
            hold.set()
            more = await rest(elsewhere(desk), cursor)

        assert not running
        assert cursor == "2+0.0.3.8"
        assert (written(items), written(more)) == ("one two ", "three four")
        assert facts(more) == [3, 4]

    run_jumping(scenario())


def test_a_superseded_attempt_is_dropped_and_the_next_one_comes_whole() -> None:
    """After a crash another attempt writes the answer anew; a reader must not mix the two."""

    async def scenario() -> None:
        desk, hold = Desk(clock=LoopClock()), asyncio.Event()
        doomed = Model(spoken("the first ", "x", hold=hold, at=1))
        first = desk.runtime(ASKS, providers={"fake": doomed})
        await first.open()
        await first.start(ASKS, None, run_id="r")
        before, cursor = await begun(elsewhere(desk), upto="the first ")
        await desk.crash(first)
        again = Model(spoken("the ", "second", hold=hold, at=1))
        async with desk.open(ASKS, providers={"fake": again}):
            following = asyncio.create_task(rest(elsewhere(desk), cursor))
            stayed = asyncio.create_task(rest(elsewhere(desk)))
            await asyncio.sleep(60)
            hold.set()
            after, whole = await following, await stayed

        (reset,) = [item for item in after if isinstance(item, Reset)]
        assert reset == Reset("0", 1, shown=len("the first "))
        assert written([*before, *after]) == "the second"
        assert all(item.attempt == 1 for item in after if isinstance(item, Delta))
        order = [type(item) for item in after if not isinstance(item, Delta)]
        assert order == [Reset, Recorded, Recorded, Recorded]  # before what starts the attempt
        assert written(whole) == "the second"

    run_jumping(scenario())


def test_text_comes_from_elsewhere_and_goes_on_at_its_cursor() -> None:
    """What most readers want, in any process."""

    async def scenario() -> None:
        desk, hold = Desk(clock=LoopClock()), asyncio.Event()
        async with desk.open(providers={"fake": Model(spoken(*WORDS, hold=hold, at=2))}) as runtime:
            await runtime.start(ASKS, None, run_id="r")
            reading = elsewhere(desk).text()
            first = await anext(reading)
            await reading.aclose()
            hold.set()
            more = [part async for part in elsewhere(desk).text(after=reading.cursor)]

        assert (first, "".join(map(str, more))) == ("one two ", "three four")

    run_jumping(scenario())


def test_two_answers_at_once_are_two_texts() -> None:
    """A cursor is a place in each of them."""

    async def both(ctx: Any) -> list[str]:
        asked = await ctx.gather(*(ctx.call_llm("fake:m", str(n)) for n in range(2)))
        return [answer.text for answer in asked]

    async def scenario() -> None:
        desk, hold = Desk(clock=LoopClock()), asyncio.Event()
        model = Model(
            spoken("a1 ", "a2", hold=hold, at=1), spoken("b1 ", "b2 ", "b3", hold=hold, at=2)
        )
        async with desk.open(providers={"fake": model}) as runtime:
            await runtime.start(flow(both, models=["fake:m"]), None, run_id="r")
            items, cursor = await begun(elsewhere(desk), upto="a1 b1 b2 ")
            hold.set()
            more = await rest(elsewhere(desk), cursor)

        assert cursor.count("+") == 2
        assert sorted(written(more).replace("b3", " b3").split()) == ["a2", "b3"]
        assert facts(items + more) == list(range(1, 7))

    run_jumping(scenario())


@pytest.mark.parametrize(
    "broken",
    [
        ProviderError("busy", kind="permanent", category="server", phase="response"),
        ValueError("a provider of somebody's own may raise anything"),
    ],
    ids=["an error", "a bug"],
)
def test_what_an_answer_said_before_it_failed_is_told_to_late_readers_too(
    broken: Exception,
) -> None:
    """The text of a run does not depend on when somebody reads it."""

    async def scenario() -> None:
        desk = Desk(clock=LoopClock())
        model = Model([MessageStart("m"), TextDelta(0, "half an"), broken])
        async with desk.open(providers={"fake": model}) as runtime:
            handle = await runtime.start(ASKS, None, run_id="r")
            await handle.settled()

            assert written(await rest(elsewhere(desk))) == "half an"

    run_jumping(scenario())


def test_a_secret_in_pieces_reaches_neither_readers_nor_the_store() -> None:
    """What is shown live cannot be taken back."""

    async def scenario() -> None:
        desk, hold = Desk(clock=LoopClock(), secrets=[SECRET]), asyncio.Event()
        pieces = ["it is can", "ary-7f3e9", "1d2b4. ", "an", "d more", " can"]
        async with desk.open(
            providers={"fake": Model(spoken(*pieces, hold=hold, at=6))}
        ) as runtime:
            handle = await runtime.start(ASKS, None, run_id="r")
            live = asyncio.create_task(_live(handle))
            items, _ = await begun(elsewhere(desk), upto="it is [redacted:registered]. and more ")
            kept = b"".join(piece.body for piece in await desk.journal.pieces(RUN))
            hold.set()
            whole = await rest(elsewhere(desk))

            assert written(whole) == "it is [redacted:registered]. and more can"
            heard = await live
            assert written(heard) == written(whole)
            for place in (kept, repr(items).encode(), repr(heard).encode()):
                assert b"canary" not in place
            for shown in (kept.decode(), written(items), written(heard)):
                assert "7f3e9" not in shown

    run_jumping(scenario())


def test_an_answer_that_is_no_text_keeps_no_other_from_its_readers() -> None:
    """The providers of all runs of a worker share what keeps their pieces."""

    async def scenario() -> None:
        desk, hold = Desk(clock=LoopClock()), asyncio.Event()
        odd = Model(spoken("a \ud83d", " b", hold=hold, at=2))
        models = {"fake": Model(spoken(*WORDS, hold=hold, at=3)), "odd": odd}

        async def asks_odd(ctx: Any) -> str:
            return str((await ctx.call_llm("odd:m", "hi")).text)

        async with desk.open(providers=models) as runtime:
            other = await runtime.start(flow(asks_odd, models=["odd:m"]), None, run_id="other")
            await runtime.start(ASKS, None, run_id="r")
            async with asyncio.timeout(5):
                items, _ = await begun(elsewhere(desk), upto="one two three ")
            hold.set()

            assert written(items) == "one two three "
            assert type(await other.settled()).__name__ == "Failed"

    run_jumping(scenario())


async def _live(handle: RunHandle[Any]) -> list[Any]:
    return [item async for item in handle.live()]


@pytest.mark.parametrize(
    ("seq", "shown"),
    [(0, {}), (12, {}), (12, {"t1": Shown(0, 57, 230), "2.b0.s4": Shown(3, 0, 0)})],
)
def test_a_cursor_comes_back_as_it_was(seq: int, shown: dict[str, Shown]) -> None:
    """It is all a reader takes along."""
    assert place_of(cursor_of(seq, shown)) == (seq, shown)


@pytest.mark.parametrize(
    "cursor",
    ["", "x", "-1", "1+", "1+t1", "1+t1.0.0", "1+.0.0.0", "1+t1.0.0.-1", "1 ", "²", "9" * 20, None,
     True, 1.0, -1, b"1", "1+t1.0.0.0+"],
)  # fmt: skip
def test_what_is_no_cursor_is_refused(cursor: Any) -> None:
    """Read as something else it would skip events in silence."""
    with pytest.raises(InvalidInput) as caught:
        Client().handle("r").events(after=cursor)

    assert caught.value.code == "E_CURSOR_INVALID"


@pytest.mark.parametrize("deltas", [False, True])
def test_a_place_that_the_run_has_not_come_to_is_refused(deltas: bool) -> None:
    """Another run's cursor, or one from before a backup was restored: events would be left out."""

    async def scenario() -> None:
        desk = Desk(clock=LoopClock())
        async with desk.open(providers={"fake": Model(said("hello"))}) as runtime:
            handle = await runtime.start(ASKS, None, run_id="r")
            with pytest.raises(InvalidInput) as caught:
                async for _ in handle.events(after=99, deltas=deltas):  # type: ignore[call-overload]
                    pass

            assert (caught.value.code, "99" in str(caught.value)) == ("E_CURSOR_INVALID", True)

    asyncio.run(scenario())


def test_a_run_that_ended_before_the_cursor_has_nothing_more() -> None:
    """A reader that comes back after the end must not wait for ever."""

    async def scenario() -> None:
        desk = Desk(clock=LoopClock())
        async with desk.open(providers={"fake": Model(said("hello"))}) as runtime:
            handle = await runtime.start(ASKS, None, run_id="r")
            reading = handle.events(deltas=True)
            async for _ in reading:
                await eventually(lambda: True, "nothing")

            assert await rest(handle, reading.cursor) == []
            assert [each async for each in handle.events(after=reading.cursor)] == []

    run_jumping(scenario())
