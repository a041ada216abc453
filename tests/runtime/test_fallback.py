"""Fallback routes: when a call goes on elsewhere, what the journal says of it, and crashes."""

import asyncio
from typing import Any

import pytest
from tests.runtime.kit import CutJournal, Desk, Model, eventually, flow, run, said

from gatebook.errors import ActionDenied, ActionError, ConfigError, InvalidInput, ProviderError
from gatebook.kernel.actions import CallLLM, CallTool
from gatebook.kernel.budget import Budget
from gatebook.kernel.codec import plain
from gatebook.kernel.events import (
    ActionDenied as ActionDeniedEvent,
)
from gatebook.kernel.events import (
    ActionFailed,
    ActionRequested,
    ActionSucceeded,
    AttemptFailed,
    AttemptStarted,
)
from gatebook.kernel.messages import (
    ChatResponse,
    Message,
    MessageEnd,
    MessageStart,
    TextDelta,
    TextPart,
    ThinkingDelta,
    ThinkingPart,
    ToolCallPart,
    ToolCallStart,
)
from gatebook.kernel.origins import bound, sendable
from gatebook.kernel.policies import AllowDeclared, AllowListPolicy, RetryWithBackoffPolicy
from gatebook.kernel.policy import Policy
from gatebook.kernel.verify import verify_facts
from gatebook.programs import Agent
from gatebook.runtime.runs.handles import RunHandle
from gatebook.runtime.runs.states import Finished

ROUTES = ["a:m", "b:n", "c:o"]


def error(category: str, kind: str = "transient", **fields: Any) -> ProviderError:
    return ProviderError("no", kind=kind, category=category, **{"phase": "response"} | fields)


async def asking(ctx: Any) -> str:
    try:
        return str((await ctx.call_llm(ROUTES, "hi")).text)
    except ActionDenied as exc:
        return exc.code
    except ActionError as exc:
        return f"{exc.code} {exc.fields.get('category')}"


PROGRAM = flow(asking, models=ROUTES)


class Models:
    """Three providers, a, b and c; what each says, attempt by attempt."""

    def __init__(self, a: list[Any], b: list[Any] | None = None, c: list[Any] | None = None):
        self.of = {"a": Model(*a), "b": Model(*b or []), "c": Model(*c or [])}

    @property
    def asked(self) -> dict[str, int]:
        """How often each was asked."""
        return {name: len(model.asked) for name, model in self.of.items() if model.asked}


def quick(retries: int = 1) -> Policy:
    return RetryWithBackoffPolicy(AllowDeclared(), retries, 0)


async def output_of(desk: Desk, handle: RunHandle[Any]) -> Any:
    return (await desk.clock.until(handle.result())).output


async def ending(models: Models, policy: Policy | None = None) -> tuple[Any, Desk]:
    """What a run gave that asks along the three routes, and where its journal is."""
    desk = Desk(policy=policy or quick())
    async with desk.open(providers=models.of) as runtime:
        output = await output_of(desk, await runtime.start(PROGRAM, None, run_id="r"))
    await desk.journal.open()
    return output, desk


@pytest.mark.parametrize(
    "failed",
    [
        error("overloaded"),
        error("not_found", "permanent", status=404),
        error("quota", "permanent", status=429),
        error("rate_limited", "rate_limited", retry_after_ms=60_000),
    ],
)
def test_a_route_that_cannot_answer_is_left_at_once(failed: ProviderError) -> None:
    """Waiting for it helps nobody while another one may answer."""
    models = Models([[failed]], [said("from b")])

    output, desk = run(ending(models, RetryWithBackoffPolicy(AllowDeclared(), 3, 500, 30_000)))

    assert (output, models.asked) == ("from b", {"a": 1, "b": 1})
    assert not {0.5, 60.0} & set(desk.clock.slept)


@pytest.mark.parametrize(
    "failed",
    [
        error("connection", phase="connect"), error("connection", phase="read"),
        error("server"), error("timeout"), error("truncated"),
        error("rate_limited", "rate_limited"),
        error("rate_limited", "rate_limited", retry_after_ms=5),
    ],
)  # fmt: skip
def test_what_a_retry_may_mend_is_retried_before_it_is_left(failed: ProviderError) -> None:
    """A hiccup is no reason for another model; a provider that stays away is one."""
    models = Models([[failed], [failed]], [said("from b")])

    output, _ = run(ending(models))

    assert (output, models.asked) == ("from b", {"a": 2, "b": 1})


@pytest.mark.parametrize(
    "category",
    ["invalid_request", "auth", "context_length", "content_filter", "connection", "server"],
)
def test_a_permanent_error_of_the_request_or_the_setup_ends_the_call(category: str) -> None:
    """It would fail elsewhere too, must not succeed elsewhere, or somebody must see it."""
    models = Models([[error(category, "permanent")]], [said("from b")])

    output, _ = run(ending(models))

    assert (output, models.asked) == (f"E_PROVIDER {category}", {"a": 1})


@pytest.mark.parametrize("category", ["overloaded", "server", "truncated"])
def test_after_output_no_other_route_is_asked(category: str) -> None:
    """A reader has seen the beginning of an answer; a second one would contradict it."""
    begun = [MessageStart("m"), TextDelta(0, "Well"), error(category)]
    models = Models([begun], [said("from b")])

    output, _ = run(ending(models))

    assert (output, models.asked) == (f"E_PROVIDER {category}", {"a": 1})


def test_each_route_has_its_own_retries() -> None:
    """`max_retries=1` is two requests at each provider, and never a third."""
    models = Models(*[[[error("server")]] * 2 for _ in "abc"])

    output, desk = run(ending(models))
    failed = run(desk.all("r", AttemptFailed))

    assert (output, models.asked) == ("E_PROVIDER server", {"a": 2, "b": 2, "c": 2})
    assert [event.attempt for event in failed] == [0, 1, 2, 3, 4]


def test_without_retries_each_route_is_asked_once() -> None:
    """Going on is not repeating."""
    models = Models([[error("server")]], [[error("overloaded")]], [said("from c")])

    output, _ = run(ending(models, quick(0)))

    assert (output, models.asked) == ("from c", {"a": 1, "b": 1, "c": 1})


def test_the_last_route_is_retried_like_an_only_one() -> None:
    """There is nowhere left to go."""
    models = Models([[error("overloaded")]], [[error("overloaded")]],
                    [[error("overloaded")], said("from c")])  # fmt: skip

    output, _ = run(ending(models))

    assert (output, models.asked) == ("from c", {"a": 1, "b": 1, "c": 2})


def test_back_off_begins_anew_on_each_route() -> None:
    """How long a provider has failed says nothing of the next."""
    policy = RetryWithBackoffPolicy(AllowDeclared(), 2, 100, 30_000)
    models = Models([[error("server")]] * 3, [[error("server")]] * 2 + [said("from b")])

    _, desk = run(ending(models, policy))
    failed = run(desk.all("r", AttemptFailed))

    assert [event.delay_ms for event in failed] == [100, 200, 0, 100, 200]


def test_every_attempt_is_journaled_with_its_route() -> None:
    """The route is where the journal says, and the first is said by the request."""
    models = Models([[error("server")], [error("server")]], [[error("overloaded")]],
                    [said("from c")])  # fmt: skip

    _, desk = run(ending(models))
    requested = run(desk.only("r", ActionRequested))
    failed = run(desk.all("r", AttemptFailed))
    started = run(desk.all("r", AttemptStarted))

    assert isinstance(requested.action, CallLLM)
    assert (requested.action.route, requested.action.fallbacks) == ("a:m", ("b:n", "c:o"))
    assert [event.route for event in failed] == ["", "b:n", "c:o"]
    assert [(event.attempt, event.route) for event in started] == [(1, ""), (2, "b:n"), (3, "c:o")]
    verify_facts("r", run(desk.events("r")), run(desk.journal.row(runs_key())).head)


def runs_key() -> Any:
    from gatebook.ports import RunKey

    return RunKey("default", "r")


def test_a_route_gets_its_own_model_name() -> None:
    """And the same conversation."""
    models = Models([[error("overloaded")]], [said("from b")])

    run(ending(models))
    first, second = models.of["a"].asked[0], models.of["b"].asked[0]

    assert (first.provider, first.model) == ("a", "m")
    assert (second.provider, second.model) == ("b", "n")
    assert first.messages == second.messages


def test_options_of_one_provider_are_not_sent_to_another() -> None:
    """They are words of its own, and the other refuses what it does not know."""

    async def scenario() -> list[dict[str, Any]]:
        models = Models([[error("overloaded")]], [said("from b")])

        async def body(ctx: Any) -> str:
            options = {"provider_options": {"x": 1}, "temperature": 0.5}
            return str((await ctx.call_llm(ROUTES, "hi", **options)).text)

        desk = Desk(policy=quick())
        async with desk.open(providers=models.of) as runtime:
            await output_of(desk, await runtime.start(flow(body, models=ROUTES), None))
        asked = [models.of[name].asked[0] for name in "ab"]
        assert [request.temperature for request in asked] == [0.5, 0.5]
        return [request.provider_options for request in asked]

    assert run(scenario()) == [{"x": 1}, {}]


# ---- the gate ----


@pytest.mark.parametrize("listed", [["a", "b"], ["a:m", "c"], ["b", "c"]])
def test_every_route_must_be_allowed(listed: list[str]) -> None:
    """A call that could end where it may not go is not begun."""
    models = Models([said("from a")])

    output, desk = run(ending(models, AllowListPolicy(providers=listed)))
    denied = run(desk.only("r", ActionDeniedEvent))

    assert (output, models.asked) == ("E_NOT_ALLOWED", {})
    missing = next(route for route in ROUTES if not {route, route[0]} & {*listed})
    assert f"'{missing}' is not on the allow-list" in denied.error.message


def test_every_route_must_be_declared() -> None:
    """A workflow's models are the whole of what it may ask."""

    async def scenario() -> None:
        desk, models = Desk(), Models([said("from a")])

        async with desk.open(providers=models.of) as runtime:
            program = flow(asking, models=ROUTES[:2])
            state = await desk.settled(await runtime.start(program, None))

        assert (state, models.asked) == (Finished("E_NOT_DECLARED"), {})

    run(scenario())


class Fickle(AllowDeclared):
    """Allows everything first, and later all but one route; remembers what it was asked."""

    def __init__(self, denied: str) -> None:
        super().__init__()
        self.denied = denied
        self.asked: list[tuple[int, str]] = []

    def authorize(self, action: Any, context: Any) -> Any:
        from gatebook.kernel.policy import Decision

        self.asked.append((context.attempt, action.route))
        if context.attempt and action.route == self.denied:
            return Decision.deny("not any more")
        return super().authorize(action, context)


def test_a_further_attempt_is_decided_on_the_route_it_will_ask() -> None:
    """Rules are about providers and models, so they must see the one that is called."""
    policy, models = Fickle("b:n"), Models([[error("overloaded")]], [said("from b")])

    output, _ = run(ending(models, policy))

    assert policy.asked == [(0, "a:m"), (0, "b:n"), (0, "c:o"), (1, "b:n")]
    assert (output, models.asked) == ("E_POLICY_DENIED None", {"a": 1})


def test_a_policy_that_breaks_moves_nothing_on() -> None:
    """What cannot say whether to repeat does not get a new address either."""

    class Broken(AllowDeclared):
        def retry(self, error: Any, action: Any, attempt: int) -> Any:
            raise ZeroDivisionError

    models = Models([[error("overloaded")]], [said("from b")])

    output, _ = run(ending(models, Broken()))

    assert (output, models.asked) == ("E_POLICY_ERROR overloaded", {"a": 1})


def test_a_policys_retry_sees_route_and_attempts_of_that_route() -> None:
    """It may press one provider harder than another."""
    seen: list[tuple[str, int]] = []

    class Watching(RetryWithBackoffPolicy):
        def retry(self, error: Any, action: Any, attempt: int) -> Any:
            seen.append((action.route, attempt))
            return super().retry(error, action, attempt)

    models = Models([[error("server")]] * 2, [[error("server")], said("from b")])

    run(ending(models, Watching(AllowDeclared(), 1, 0)))

    assert seen == [("a:m", 0), ("a:m", 1), ("b:n", 0)]


PRICE = {"input": "1", "output": "2"}


def test_a_fallback_without_a_price_is_refused_under_a_limit_in_dollars() -> None:
    """Before the first route is asked, not in the middle of an outage."""

    async def scenario() -> None:
        desk = Desk(policy=AllowDeclared(budget=Budget(usd="1")))
        models = Models([said("from a")])

        prices = {"a:m": PRICE, "b:n": PRICE}
        async with desk.open(providers=models.of, prices=prices) as runtime:
            state = await desk.settled(await runtime.start(PROGRAM, None, run_id="r"))
            denied = await desk.only("r", ActionDeniedEvent)

        assert (state, models.asked) == (Finished("E_PRICE_UNKNOWN"), {})
        assert "'c:o'" in denied.error.message

    run(scenario())


def test_an_answer_is_charged_at_the_price_of_its_route() -> None:
    """And the attempt before it at its own."""

    async def scenario() -> None:
        desk = Desk(policy=AllowDeclared(budget=Budget(usd="1")))
        models = Models([[error("overloaded")]], [said("from b")])

        prices = {"a": PRICE, "a:m": PRICE, "b:n": {"input": "10", "output": "20"}, "c:o": PRICE}
        async with desk.open(providers=models.of, prices=prices) as runtime:
            await desk.settled(await runtime.start(PROGRAM, None, run_id="r"))
            failed = await desk.only("r", AttemptFailed)
            started = await desk.only("r", AttemptStarted)
            answered = await desk.only("r", ActionSucceeded)
            events, row = await desk.events("r"), await desk.journal.row(runs_key())

        assert failed.price is not None
        assert answered.price is not None
        assert answered.spent is not None
        assert (failed.price.input, answered.price.input) == (1_000_000, 10_000_000)
        assert answered.spent.usd_micros == 3 * 10 + 4 * 20
        assert started.reserve.usd_micros > 10 * 4_096
        verify_facts("r", events, row.head)

    run(scenario())


def test_a_budget_counts_attempts_on_every_route() -> None:
    """What does not fit is not started, wherever it would go."""
    policy = RetryWithBackoffPolicy(AllowDeclared(budget=Budget(llm_tokens=5_000)), 0, 0)
    models = Models([[error("overloaded")]], [said("from b")])

    output, _ = run(ending(models, policy))

    assert (output, models.asked) == ("E_BUDGET None", {"a": 1})


# ---- crashes ----


def test_a_call_lost_on_a_fallback_is_asked_again_there() -> None:
    """The journal says where it was; what the first route did is history."""

    async def scenario() -> None:
        desk = Desk(policy=quick())
        hang = asyncio.Event()
        lost = Models([[error("overloaded")]], [[hang.wait]])
        runtime = desk.runtime(PROGRAM, providers=lost.of)
        await runtime.open()
        await runtime.start(PROGRAM, None, run_id="r")
        await eventually(lambda: lost.of["b"].open, "the fallback was asked")
        await desk.crash(runtime)
        desk.lapse()

        models = Models([said("from a")], [said("from b")])
        async with desk.open(PROGRAM, providers=models.of) as runtime:
            output = await output_of(desk, runtime.handle("r", PROGRAM))
            started = await desk.all("r", AttemptStarted)

        assert (output, models.asked) == ("from b", {"b": 1})
        assert [(e.attempt, e.cause, e.route) for e in started] == [
            (1, "retry", "b:n"),
            (2, "recovery", "b:n"),
        ]

    run(scenario())


@pytest.mark.parametrize("append", range(1, 5))
def test_a_crash_at_any_append_ends_with_one_answer(append: int) -> None:
    """Between the failure on one route and the start on the next, too."""

    async def scenario() -> None:
        desk = Desk(policy=quick(0))
        cut = CutJournal(desk.journal, append=append)
        first = Models([[error("overloaded")]] * 3, [[error("server")]] * 3, [said("from c")] * 3)
        runtime = desk.runtime(PROGRAM, journal=cut, providers=first.of)
        await runtime.open()
        await runtime.start(PROGRAM, None, run_id="r")
        await eventually(lambda: cut.dead or not runtime._drivers, "the worker died or was done")
        await desk.crash(runtime)
        desk.lapse()

        models = Models([[error("overloaded")]] * 3, [[error("server")]] * 3, [said("from c")] * 3)
        async with desk.open(PROGRAM, providers=models.of) as runtime:
            output = await output_of(desk, runtime.handle("r", PROGRAM))
            events = await desk.events("r")
            row = await desk.journal.row(runs_key())

        assert output == "from c"
        assert len([event for event in events if isinstance(event, ActionSucceeded)]) == 1
        verify_facts("r", events, row.head)

    run(scenario())


def test_a_wait_on_a_fallback_survives_its_worker_with_route_and_count() -> None:
    """The next worker waits the rest, asks the same route, and counts on."""

    async def scenario() -> None:
        desk = Desk(policy=RetryWithBackoffPolicy(AllowDeclared(), 1, 10_000))
        first = Models([[error("overloaded")]], [[error("server")]])
        async with desk.open(providers=first.of) as runtime:
            await desk.settled(await runtime.start(PROGRAM, None, run_id="r"))
        await desk.journal.open()

        models = Models([], [[error("server")]], [said("from c")])
        async with desk.open(PROGRAM, providers=models.of) as runtime:
            output = await output_of(desk, runtime.handle("r", PROGRAM))

        assert (first.asked, models.asked) == ({"a": 1, "b": 1}, {"b": 1, "c": 1})
        assert output == "from c"

    run(scenario())


# ---- declarations ----


def test_an_agent_declares_all_its_routes() -> None:
    """A run is refused where one of them has no key, and the list is part of the fingerprint."""
    alone, listed = Agent(name="x", model="a:m"), Agent(name="x", model=ROUTES)

    assert (listed.model, list(listed.models)) == ("a:m", ROUTES)
    assert listed.digest != alone.digest
    assert Agent(name="x", model=["a:m"]).digest == alone.digest


def test_an_agent_goes_on_with_its_next_route() -> None:
    """Turn by turn: each begins with the first again."""

    async def scenario() -> None:
        desk, models = Desk(policy=quick()), Models([[error("overloaded")]], [said("from b")])

        async with desk.open(providers=models.of) as runtime:
            handle = await runtime.start(Agent(name="x", model=ROUTES), "hi")

            assert await output_of(desk, handle) == "from b"

    run(scenario())


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        ([], ConfigError), (["a:m", "a:m"], ConfigError),
        ([f"a:{n}" for n in range(9)], ConfigError), (["a:m", "b"], InvalidInput),
        (["a:m", 5], InvalidInput), ({"a:m"}, InvalidInput), (None, InvalidInput),
    ],
)  # fmt: skip
def test_what_is_no_list_of_routes_is_refused(model: Any, kind: type[Exception]) -> None:
    """When it is declared, not when the first route fails."""
    with pytest.raises(kind):
        Agent(name="x", model=model)


# ---- what is bound to a provider ----


THOUGHT = ThinkingPart("hm", signature="s1g")
CALL = ToolCallPart("1", "look", "{}", provider_data='{"id":"fc_1"}')


def test_opaque_parts_of_an_answer_name_their_provider() -> None:
    """Plain text and calls belong to nobody."""
    plain_call = ToolCallPart("2", "look")
    message = Message("assistant", (THOUGHT, TextPart("so"), CALL, plain_call, ThinkingPart("x")))
    answer = ChatResponse(model="m", message=message, finish_reason="stop")

    found = bound(answer, "a").message.content

    assert [getattr(part, "origin", None) for part in found] == ["a", None, "a", "", ""]


def test_another_provider_is_not_sent_what_is_bound() -> None:
    """Thoughts are left out, calls lose their data; an answer of thoughts alone is no message."""
    ours = ThinkingPart("hm", signature="s1g", origin="a")
    called = ToolCallPart("1", "look", "{}", provider_data="{}", origin="a")
    talk = [
        Message.user("q"),
        Message("assistant", (ours, TextPart("so"), called)),
        Message("assistant", (ours,)),
    ]

    assert sendable(talk, "a") == tuple(talk)
    assert sendable(talk, "b") == (
        Message.user("q"),
        Message("assistant", (TextPart("so"), ToolCallPart("1", "look", "{}"))),
    )


def test_a_conversation_that_changes_its_provider_loses_only_what_is_bound() -> None:
    """The second turn goes to another provider: Anthropic's signature is nothing to it."""

    async def scenario() -> None:
        thinking = [
            MessageStart("m"),
            ThinkingDelta(0, "hm", "s1g"),
            ToolCallStart(0, "1", "look", '{"id":"fc_1"}'),
            MessageEnd("tool_calls", "tool_calls"),
        ]
        models = Models([thinking, [error("overloaded")]], [said("from b")])

        from gatebook import tool

        @tool(effect="read")
        async def look() -> str:
            return "seen"

        desk = Desk(policy=quick())
        async with desk.open(providers=models.of) as runtime:
            agent = Agent(name="x", model=ROUTES, tools=[look])
            await output_of(desk, await runtime.start(agent, "hi", run_id="r"))
            asked = [e for e in await desk.all("r", ActionRequested)
                     if not isinstance(e.action, CallTool)]  # fmt: skip

        own, foreign = models.of["a"].asked[1].messages[1], models.of["b"].asked[0].messages[1]
        assert own.content == (
            ThinkingPart("hm", "s1g", origin="a"),
            ToolCallPart("1", "look", "{}", '{"id":"fc_1"}', "a"),
        )
        assert foreign.content == (ToolCallPart("1", "look", "{}"),)
        assert len(asked) == 2

    run(scenario())


def test_a_failed_call_keeps_the_error_of_its_last_route() -> None:
    """The others are in the journal, attempt by attempt."""
    models = Models([[error("overloaded")]], [[error("quota", "permanent")]],
                    [[error("auth", "permanent")]])  # fmt: skip

    output, desk = run(ending(models))
    failed = run(desk.only("r", ActionFailed))
    before = run(desk.all("r", AttemptFailed))

    assert output == "E_PROVIDER auth"
    errors = [event.error for event in before] + [failed.error]
    assert [error.category for error in errors] == ["overloaded", "quota", "auth"]
    assert plain(run(desk.events("r"))[-1].output) == output  # type: ignore[union-attr]
