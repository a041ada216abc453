"""Policies: closed by default, and what each of the shipped ones opens."""

import asyncio
from typing import Any

import pytest

from gatebook.errors import ConfigError, InvalidInput, Permanent, RateLimited, Transient
from gatebook.kernel.actions import Action, CallLLM, CallTool, Prompt, Sleep, WaitSignal
from gatebook.kernel.budget import Budget
from gatebook.kernel.codec import Raw
from gatebook.kernel.policies import AllowDeclared, AllowListPolicy, RetryWithBackoffPolicy
from gatebook.kernel.policy import (
    Decision,
    Fail,
    Policy,
    PolicyContext,
    Retry,
    owns_retries,
    policy_budget,
    policy_digest,
    policy_name,
)
from gatebook.kernel.spending.ledgers import policy_ledgers
from tests.programs.play import Echo

CONTEXT = PolicyContext(
    run_id="r", tenant="default", program="p", address="0",
    tools=frozenset({"read"}), models=frozenset({"openai:gpt"}),
)  # fmt: skip


def call(tool: str) -> CallTool:
    return CallTool(tool, Raw(b"{}"))


def ask(route: str) -> CallLLM:
    provider, _, model = route.partition(":")
    return CallLLM(provider, model, Prompt("d"))


def verdict(policy: Policy, action: Action) -> str:
    return policy.authorize(action, CONTEXT).verdict


@pytest.mark.parametrize("action", [call("read"), ask("openai:gpt"), Sleep(1), WaitSignal("go")])
def test_the_bare_policy_allows_nothing(action: Action) -> None:
    """Closed by default."""
    assert verdict(Policy(), action) == "deny"


def test_the_bare_policy_retries_nothing_and_limits_nothing() -> None:
    """The kernel has no opinions; the edge does."""
    policy = Policy()

    assert policy.retry(Transient("x"), call("read"), 0) == Fail()
    assert policy.budget() == Budget()


@pytest.mark.parametrize(
    ("action", "allowed"),
    [
        (call("read"), True), (call("write"), False),
        (ask("openai:gpt"), True), (ask("openai:other"), False), (ask("local:gpt"), False),
        (Sleep(1), True), (WaitSignal("go"), True),
    ],
)  # fmt: skip
def test_allow_declared_opens_what_the_program_declares(action: Action, allowed: bool) -> None:
    """For development: exactly what is written in the program."""
    assert (verdict(AllowDeclared(), action) == "allow") is allowed


def test_allow_declared_says_that_it_is_for_development() -> None:
    """It is printed wherever the run is shown."""
    assert AllowDeclared().name == "allow-declared (development)"
    assert AllowDeclared().authorize(call("write"), CONTEXT).code == "E_NOT_DECLARED"


@pytest.mark.parametrize(
    ("policy", "action", "allowed"),
    [
        (AllowListPolicy.tools_only("read"), call("read"), True),
        (AllowListPolicy.tools_only("read"), call("write"), False),
        (AllowListPolicy.tools_only("read"), ask("openai:gpt"), False),
        (AllowListPolicy.tools_only("openai"), ask("openai:gpt"), False),
        (AllowListPolicy.providers_only("openai"), ask("openai:gpt"), True),
        (AllowListPolicy.providers_only("openai:gpt"), ask("openai:gpt"), True),
        (AllowListPolicy.providers_only("openai:gpt"), ask("openai:other"), False),
        (AllowListPolicy.providers_only("read"), call("read"), False),
        (AllowListPolicy(), Sleep(1), True),
        (AllowListPolicy(), WaitSignal("go"), True),
    ],
)
def test_an_allow_list_opens_what_it_lists(policy: Policy, action: Action, allowed: bool) -> None:
    """Tools and providers are two lists; a name in one says nothing about the other."""
    assert (verdict(policy, action) == "allow") is allowed


def test_an_allow_list_says_what_is_missing() -> None:
    """The model reads it."""
    decision = AllowListPolicy().authorize(call("write"), CONTEXT)

    assert (decision.code, decision.reason) == ("E_NOT_ALLOWED", "'write' is not on the allow-list")


def test_an_allow_list_takes_tools_by_object() -> None:
    """Names in strings go out of date."""

    class Named(Echo):
        name = "read"

    tools: list[Any] = [Named("read")]

    assert verdict(AllowListPolicy(tools=tools), call("read")) == "allow"


@pytest.mark.parametrize("given", ["read", [1], [None]])
def test_a_list_that_is_none_is_refused(given: Any) -> None:
    """`tools="read"` would allow r, e, a and d."""
    with pytest.raises(InvalidInput) as caught:
        AllowListPolicy(tools=given)

    assert caught.value.code == "E_POLICY_LIST"


def test_digests_follow_the_rules_and_not_their_order() -> None:
    """A journal names the policy that decided."""
    one = AllowListPolicy(["a", "b"])

    assert one.digest == AllowListPolicy(["b", "a"]).digest
    assert one.digest != AllowListPolicy(["a"]).digest
    assert one.digest != AllowListPolicy(["a", "b"], budget=Budget(tool_calls=1)).digest
    assert AllowDeclared().digest != AllowDeclared(budget=Budget(tool_calls=1)).digest


def test_a_retry_policy_decides_as_its_inner_one() -> None:
    """It adds retries and nothing else."""
    inner = AllowListPolicy(["read"], budget=Budget(tool_calls=1))
    policy = RetryWithBackoffPolicy(inner, 2, 50)

    assert verdict(policy, call("read")) == "allow"
    assert verdict(policy, call("write")) == "deny"
    assert policy.budget() == Budget(tool_calls=1)
    assert policy.name == "allow-list"
    assert policy.digest not in (inner.digest, RetryWithBackoffPolicy(inner, 3, 50).digest)


@pytest.mark.parametrize(
    ("attempt", "wait"),
    [(0, 50), (1, 100), (2, 200), (3, 400), (4, 500), (5, 500), (70, 500)],
)
def test_waits_double_up_to_the_cap(attempt: int, wait: int) -> None:
    """Base 50, cap 500; the seventieth does not overflow."""
    policy = RetryWithBackoffPolicy(AllowDeclared(), 99, 50, 500)

    assert policy.retry(Transient("x"), call("read"), attempt) == Retry(wait)


def test_max_retries_is_the_number_of_repetitions() -> None:
    """N retries are N+1 attempts."""
    policy = RetryWithBackoffPolicy(AllowDeclared(), 2, 50)

    answers = [policy.retry(Transient("x"), call("read"), n) for n in range(4)]

    assert [isinstance(answer, Retry) for answer in answers] == [True, True, False, False]


def test_a_permanent_error_is_never_retried() -> None:
    """No wait mends it."""
    policy = RetryWithBackoffPolicy(AllowDeclared(), 9, 50)

    assert policy.retry(Permanent("x"), call("read"), 0) == Fail()


@pytest.mark.parametrize(
    ("hint", "answer"),
    [
        (120, Retry(120)), (500, Retry(500)), (0, Retry(50, 0.5)), (None, Retry(50, 0.5)),
        (-1, Retry(50, 0.5)),
    ],
)  # fmt: skip
def test_a_hint_within_the_cap_replaces_the_wait(hint: int | None, answer: Retry) -> None:
    """Exactly: jitter is for guesses of our own."""
    policy = RetryWithBackoffPolicy(AllowDeclared(), 9, 50, 500, jitter_ratio=0.5)

    assert policy.retry(RateLimited("x", retry_after_ms=hint), call("read"), 0) == answer


def test_a_hint_above_the_cap_gives_up() -> None:
    """Waiting less would hammer, waiting that long is the program's choice."""
    policy = RetryWithBackoffPolicy(AllowDeclared(), 9, 50, 500)

    answer = policy.retry(RateLimited("x", retry_after_ms=501), call("read"), 0)

    assert isinstance(answer, Fail)
    assert (answer.code, "501 ms" in answer.reason) == ("E_RETRY_AFTER_EXCEEDS", True)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("max_retries", {"max_retries": -1}), ("max_retries", {"max_retries": 1.5}),
        ("max_retries", {"max_retries": True}), ("max_retries", {"max_retries": 100}),
        ("base_ms", {"base_ms": -1}), ("base_ms", {"base_ms": "50"}),
        ("cap_ms", {"cap_ms": -1}), ("cap_ms", {"cap_ms": None}),
        ("jitter_ratio", {"jitter_ratio": 1.1}), ("jitter_ratio", {"jitter_ratio": -0.1}),
        ("jitter_ratio", {"jitter_ratio": float("nan")}), ("jitter_ratio", {"jitter_ratio": True}),
    ],
)  # fmt: skip
def test_a_retry_setting_that_makes_no_sense_is_refused(name: str, settings: Any) -> None:
    """By name, before anything runs."""
    with pytest.raises(InvalidInput) as caught:
        RetryWithBackoffPolicy(AllowDeclared(), **{"max_retries": 1, "base_ms": 50} | settings)

    assert (caught.value.code, caught.value.fields["name"]) == ("E_RETRY_CONFIG", name)


def test_only_a_policy_that_decides_retries_owns_them() -> None:
    """Others get the defaults of the edge."""

    class Own(Policy):
        def retry(self, error: Any, action: Any, attempt: int) -> Any:
            return Fail()

    class Bare:
        def authorize(self, action: Any, context: Any) -> Decision:
            return Decision.allow()

    assert owns_retries(Own())
    assert owns_retries(RetryWithBackoffPolicy(AllowDeclared(), 0, 0))
    assert not owns_retries(AllowDeclared())
    assert not owns_retries(Bare())


def test_any_object_with_the_methods_is_a_policy() -> None:
    """What it leaves out has a meaning."""

    class Bare:
        def authorize(self, action: Any, context: Any) -> Decision:
            return Decision.allow()

    assert policy_name(Bare()) == "Bare"
    assert policy_budget(Bare()) == Budget()
    assert policy_digest(Bare()) == policy_digest(Bare())


class Odd(Policy):
    """Declares what it is given, or raises it."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def _said(self) -> Any:
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer

    budget = ledgers = _said


@pytest.mark.parametrize("wrap", [lambda odd: odd, lambda odd: RetryWithBackoffPolicy(odd, 1, 1)])
@pytest.mark.parametrize("answer", [{"tool_calls": 1}, None, 5])
def test_a_budget_that_is_none_is_refused(answer: Any, wrap: Any) -> None:
    """A dict where a Budget belongs would limit nothing."""
    with pytest.raises(InvalidInput, match=r"'budget\(\) of Odd' is .*, not a Budget"):
        policy_budget(wrap(Odd(answer)))


@pytest.mark.parametrize("wrap", [lambda odd: odd, lambda odd: RetryWithBackoffPolicy(odd, 1, 1)])
@pytest.mark.parametrize("error", [KeyError("x"), asyncio.CancelledError(), Transient("busy")])
def test_a_policy_that_raises_instead_of_declaring_is_named(error: Any, wrap: Any) -> None:
    """A start that breaks off in the middle of nowhere tells nobody what to correct."""
    told = rf"raised {type(error).__name__} in %s\(\) of Odd; correct the policy \[E_POLICY_ERROR"
    with pytest.raises(ConfigError, match=told % "budget"):
        policy_budget(wrap(Odd(error)))
    with pytest.raises(ConfigError, match=told % "ledgers"):
        policy_ledgers(wrap(Odd(error)))


def test_a_budget_that_there_is_none_of_says_itself_what_is_wrong_with_it() -> None:
    """It names the meter."""
    with pytest.raises(InvalidInput, match="E_BUDGET_CONFIG"):
        policy_budget(Odd(InvalidInput("E_BUDGET_CONFIG", meter="tool_calls", value=-1, limit=9)))


def test_a_policy_that_only_decides_can_be_given_retries() -> None:
    """Any object with `authorize` is a policy; within another, too."""

    class Bare:
        def authorize(self, action: Any, context: Any) -> Decision:
            return Decision.allow()

    bare: Any = Bare()
    retried = RetryWithBackoffPolicy(bare, 1, 1)
    context: Any = None

    assert retried.start("p", None, context).verdict == "allow"
    assert policy_budget(retried) == Budget()
    assert policy_ledgers(retried) == {}
