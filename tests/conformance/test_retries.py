"""One owner of retries: requests are counted at the server, for every adapter."""

import pytest

from gatebook import Budget
from gatebook.errors import Transient
from gatebook.kernel.actions import CallLLM, Prompt
from gatebook.kernel.backoff import exponential
from gatebook.kernel.events import ActionRequested, AttemptFailed
from gatebook.kernel.opened import Open
from gatebook.kernel.policies import AllowDeclared, RetryWithBackoffPolicy
from gatebook.runtime.driving.outcomes import failed
from gatebook.runtime.performing.ended import Ended
from gatebook.runtime.runs.states import Failed, Finished
from gatebook.testing.fault_server import Cut, EndOfBody, Play, Reset, stream_head
from tests.conformance.adapters import Adapter, every_adapter
from tests.conformance.cases import case
from tests.conformance.kit import (
    POLICY,
    RETRIES,
    answering,
    driven,
    failing_with,
    run,
    served,
)
from tests.providers.calls import asking, failing, failing_whole

NONE = RetryWithBackoffPolicy(AllowDeclared(), 0, 100)

# What a server that is in trouble does; each of these is worth another attempt.
TROUBLES = {"reset": Play(Reset()), "cut": Play(Cut()), "empty": Play(*stream_head(), EndOfBody())}


@case(1)
@every_adapter
@pytest.mark.parametrize("trouble", ["invalid", "auth", "not_found", "quota", "context"])
def test_a_permanent_error_is_one_request(adapter: Adapter, trouble: str) -> None:
    """Case 1: what no retry can mend is not tried again, by anybody."""

    async def scenario() -> None:
        async with driven(adapter, failing_with(adapter, trouble)) as it:
            state = await it.end(await it.start())

            assert isinstance(state, Failed)
            assert (await it.failure()).error.kind == "permanent"
            assert it.server.count == 1

    run(scenario())


@case(2)
@every_adapter
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("trouble", ["server", "overloaded", "rate_limited"])
def test_transient_errors_are_one_request_each(adapter: Adapter, trouble: str, count: int) -> None:
    """Case 2: a client that retries by itself would make two or three of each."""

    async def scenario() -> None:
        plays = [failing_with(adapter, trouble)] * count
        async with driven(adapter, *plays, answering(adapter)) as it:
            state = await it.end(await it.start())

            assert state == Finished("hello")
            assert it.server.count == count + 1
            assert len(await it.failures()) == count

    run(scenario())


@case(2)
@every_adapter
@pytest.mark.parametrize("trouble", ["reset", "cut"])
def test_connection_errors_are_one_request_each(adapter: Adapter, trouble: str) -> None:
    """Case 2, on the wire: connection errors are what clients retry most quietly."""

    async def scenario() -> None:
        async with driven(adapter, *[TROUBLES[trouble]] * 2, answering(adapter)) as it:
            state = await it.end(await it.start())

            assert state == Finished("hello")
            assert it.server.count == 3
            assert {each.error.category for each in await it.failures()} == {"connection"}

    run(scenario())


@case(3)
@every_adapter
@pytest.mark.parametrize("trouble", ["overloaded", "rate_limited", "reset", "cut", "empty"])
def test_retries_end_with_the_last_error(adapter: Adapter, trouble: str) -> None:
    """Case 3: one attempt and max_retries more, and the error is the last one's own."""
    play = TROUBLES.get(trouble) or failing_with(adapter, trouble)

    async def scenario() -> None:
        async with driven(adapter, play) as it:
            state = await it.end(await it.start())
            alone = await failing(it.provider, asking())

            assert isinstance(state, Failed)
            assert it.server.count - 1 == RETRIES + 1
            last = (await it.failure()).error
            assert (last.kind, last.category) == (alone.kind, alone.fields["category"])
            assert last.status == alone.fields.get("status")
            assert last.message == str(alone) or trouble == "reset"  # read or write notices first

    run(scenario())


@case(4)
@every_adapter
@pytest.mark.parametrize("trouble", ["overloaded", "server", "rate_limited", "reset", "cut"])
def test_without_retries_a_failing_server_gets_one_request(adapter: Adapter, trouble: str) -> None:
    """Case 4: the defaults of the vendors' clients are two retries, or five."""
    play = TROUBLES.get(trouble) or failing_with(adapter, trouble)

    async def scenario() -> None:
        async with driven(adapter, play, policy=NONE) as it:
            state = await it.end(await it.start())

            assert isinstance(state, Failed)
            assert it.server.count == 1

    run(scenario())


@case(4)
@every_adapter
@pytest.mark.parametrize("ask", [failing, failing_whole], ids=["stream", "whole"])
def test_the_adapter_alone_makes_one_request(adapter: Adapter, ask: object) -> None:
    """Case 4, without a runtime, even where the server orders a retry."""
    play = failing_with(adapter, "overloaded", x_should_retry="true", retry_after="0.01")

    async def scenario() -> None:
        async with served(adapter, play) as it:
            error = await ask(it.provider, asking())  # type: ignore[operator]

            assert error.kind == "transient"
            assert it.server.count == 1

    run(scenario())


REQUEST = ActionRequested(address="0", action=CallLLM("it", "m", Prompt("")))


def drawn(run_id: str, attempt: int, *, base_ms: int = 100, cap_ms: int = 1_000) -> int:
    """Return the wait that the runtime would journal for this attempt of this run."""
    policy = RetryWithBackoffPolicy(AllowDeclared(), 99, base_ms, cap_ms, jitter_ratio=0.5)
    event = failed(
        run_id,
        REQUEST,
        Open(attempt=attempt),
        Ended(error=Transient("busy")),
        decide=(policy, None),
        doubted=False,
    )
    assert isinstance(event, AttemptFailed)
    return event.delay_ms


@case(12)
def test_a_back_off_keeps_its_bounds() -> None:
    """Case 12: 1,000 draws between half the step and the step, never above the cap."""
    for attempt in range(10):
        step = exponential(100, 1_000, attempt)
        waits = {drawn(f"run-{n}", attempt) for n in range(100)}

        assert step / 2 <= min(waits)
        assert max(waits) <= step <= 1_000
        assert len(waits) > 20


@case(12)
def test_two_runs_do_not_retry_in_step() -> None:
    """Case 12: runs that fail together must not come back together; each its own way, always."""
    one, other = ([drawn(name, n) for n in range(8)] for name in ("run-1", "run-2"))

    assert one != other
    assert one == [drawn("run-1", n) for n in range(8)]


@case(42)
@every_adapter
def test_a_budget_that_is_used_up_ends_the_retries(adapter: Adapter) -> None:
    """Case 42: an attempt that may have been billed is charged, and the next must still fit."""
    cut = Play(*stream_head(), Cut())

    async def scenario() -> None:
        async with driven(adapter, cut, answering(adapter)) as it:
            handle = await it.start(budget=Budget(llm_tokens=1_500), max_output_tokens=1_000)
            state = await it.end(handle)

            assert isinstance(state, Failed)
            assert state.error.code == "E_BUDGET"
            assert it.server.count == 1
            assert len(await it.failures()) == 1

    run(scenario())


@case(42)
@every_adapter
def test_a_budget_that_suffices_allows_the_retry(adapter: Adapter) -> None:
    """Case 42, the other way: the same story ends well when the second attempt fits."""
    cut = Play(*stream_head(), Cut())

    async def scenario() -> None:
        async with driven(adapter, cut, answering(adapter), policy=POLICY) as it:
            handle = await it.start(budget=Budget(llm_tokens=50_000), max_output_tokens=1_000)

            assert await it.end(handle) == Finished("hello")

    run(scenario())
