"""The hub: who is woken by what."""

import asyncio
import threading

from tests.runtime.kit import RUN, eventually, run

from gatebook.runtime.subscriptions import Hub, Subscriber
from gatebook.testing.clock import VirtualClock


def woken(reader: Subscriber) -> bool:
    """Whether a reader would look at the journal now."""
    waiting = reader.wait(VirtualClock(), 1.0)
    try:
        waiting.send(None)
    except StopIteration:
        return True
    waiting.close()
    return False


def test_a_new_event_wakes_those_who_follow_every_event() -> None:
    """They read the journal as it grows."""

    async def scenario() -> bool:
        hub = Hub()
        with hub.subscribe(RUN) as reader:
            hub.grew(RUN)
            await asyncio.sleep(0)  # they are told in the next turn of the loop
            return woken(reader)

    assert asyncio.run(scenario())


def test_a_new_event_does_not_wake_who_waits_for_the_end() -> None:
    """To look at the run's row with each step would cost more than the step."""

    async def scenario() -> bool:
        hub = Hub()
        with hub.subscribe(RUN, follows=False) as reader:
            hub.grew(RUN)
            await asyncio.sleep(0)  # they are told in the next turn of the loop
            return woken(reader)

    assert not asyncio.run(scenario())


def test_a_change_of_state_wakes_everybody() -> None:
    """The end of a run is what most readers wait for."""

    async def scenario() -> bool:
        hub = Hub()
        with hub.subscribe(RUN, follows=False) as reader:
            hub.changed(RUN)
            return woken(reader)

    assert asyncio.run(scenario())


def test_a_reader_in_another_event_loop_is_woken() -> None:
    """Its waiter belongs to that loop: touched from here it would sleep on, and a driver break."""

    class Slow(VirtualClock):
        async def sleep(self, seconds: float) -> None:
            waits.set()
            await asyncio.sleep(2)  # only so that a failure ends

    async def reads(hub: Hub) -> None:
        with hub.subscribe(RUN) as reader:
            woken_there.append(await reader.wait(Slow(), 1.0))

    async def scenario() -> None:
        hub = Hub()
        there = threading.Thread(
            target=lambda: asyncio.run(reads(hub), debug=True),  # refuses calls that are not safe
            daemon=True,
        )
        there.start()
        await eventually(waits.is_set, "the reader waits")

        hub.changed(RUN)

        await eventually(lambda: woken_there, "the reader was woken")

    waits, woken_there = threading.Event(), list[bool]()
    run(scenario())

    assert woken_there == [True]
