"""Fallback routes at the gate: each is allowed, declared, retried and paid for as itself."""

from typing import Any

import pytest
from tests.runtime.falling_back import PROGRAM, ROUTES, Models, asking, ending, error
from tests.runtime.kit import RUN, Desk, flow, run, said

from gatebook.kernel.approvals.terms import ApprovalTerms
from gatebook.kernel.budget import Budget
from gatebook.kernel.events import ActionDenied as ActionDeniedEvent
from gatebook.kernel.events import ActionSucceeded, AttemptFailed, AttemptStarted
from gatebook.kernel.policies import AllowDeclared, AllowListPolicy, RetryWithBackoffPolicy
from gatebook.kernel.policy import Decision
from gatebook.kernel.verify import verify_facts
from gatebook.runtime.runs.states import Finished


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


@pytest.mark.parametrize(("approvers", "may"), [((), True), (("ann",), True), (("bob",), False)])
def test_an_approval_covers_further_routes_of_those_who_gave_it(approvers: Any, may: bool) -> None:
    """Whoever must be asked about a route is not passed over because another was asked about."""
    first = ApprovalTerms(approvers=("ann",))

    class Asking(AllowDeclared):
        def authorize(self, action: Any, context: Any) -> Any:
            asked = first if action.route == "a:m" else ApprovalTerms(approvers=approvers)
            return Decision("ask", approvals=(asked,))

    async def scenario() -> None:
        models = Models([[error("overloaded")]], [said("from b")])
        desk = Desk(policy=RetryWithBackoffPolicy(Asking(), 1, 0))
        async with desk.open(providers=models.of) as runtime:
            handle = await runtime.start(PROGRAM, None, run_id="r")
            await desk.settled(handle)
            (approval,) = [found async for found in runtime.approvals()]
            await approval.approve(by="ann")

            assert await desk.settled(handle) == Finished(
                "from b" if may else "E_VERDICT_UNSUPPORTED"
            )
            assert models.asked == ({"a": 1, "b": 1} if may else {})

    run(scenario())


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
        state = await desk.ran(PROGRAM, providers=models.of, prices=prices)
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
        await desk.ran(PROGRAM, providers=models.of, prices=prices)
        failed = await desk.only("r", AttemptFailed)
        started = await desk.only("r", AttemptStarted)
        answered = await desk.only("r", ActionSucceeded)
        events, row = await desk.events("r"), await desk.journal.row(RUN)

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
