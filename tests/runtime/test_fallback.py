"""Fallback routes: which failures move a call on, what the next route gets, what is journaled."""

from typing import Any

import pytest
from tests.runtime.falling_back import ROUTES, Models, ending, error, output_of, quick
from tests.runtime.kit import RUN, Desk, flow, run, said

from gatebook import tool
from gatebook.errors import ConfigError, InvalidInput, ProviderError
from gatebook.kernel.actions import CallLLM, CallTool
from gatebook.kernel.codec import plain
from gatebook.kernel.events import ActionFailed, ActionRequested, AttemptFailed, AttemptStarted
from gatebook.kernel.messages import (
    MessageEnd,
    MessageStart,
    TextDelta,
    ThinkingDelta,
    ThinkingPart,
    ToolCallPart,
    ToolCallStart,
)
from gatebook.kernel.policies import AllowDeclared, RetryWithBackoffPolicy
from gatebook.kernel.verify import verify_facts
from gatebook.programs import Agent


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
    verify_facts("r", run(desk.events("r")), run(desk.journal.row(RUN)).head)


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
