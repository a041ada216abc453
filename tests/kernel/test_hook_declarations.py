"""Hooks as they are declared: rights, names and order, and what is refused."""

import functools
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from gatebook.errors import ConfigError, InvalidInput
from gatebook.kernel.codec import canonical
from gatebook.kernel.hooks.declared import POINTS, POSSIBLE, Deny, Hooks, hook
from gatebook.kernel.hooks.views import BeforeTool
from tests.kernel.hooked import TOLD, all_rights, declared


@pytest.mark.parametrize(
    "changes",
    [
        {"point": "before_sleep"}, {"point": None}, {"rights": []}, {"rights": "deny"},
        {"rights": ["change", "fly"]}, {"rights": None}, {"point": "on_run_start"},
        {"point": "on_run_end"}, {"point": "on_run_end", "rights": ["act"]},
        {"timeout": 0}, {"timeout": -1}, {"timeout": 601},
        {"timeout": "1"}, {"timeout": None}, {"timeout": True}, {"timeout": float("nan")},
        {"on_failure": "shut"}, {"on_failure": None}, {"security": 1}, {"tools": []},
        {"tools": "pay"}, {"tools": [3]}, {"point": "before_model", "tools": ["pay"]},
    ],
)  # fmt: skip
def test_a_hook_that_says_too_little_or_too_much_is_refused(changes: dict[str, Any]) -> None:
    """What it may do, for how long and how it fails is said where it is declared, or not at all."""
    with pytest.raises(ConfigError) as refused:
        declared(**changes)

    assert refused.value.code == "E_HOOK_DECLARATION"


@pytest.mark.parametrize("missing", ["rights", "timeout", "on_failure"])
def test_rights_timeout_and_failure_mode_have_no_default(missing: str) -> None:
    """A default would be chosen by nobody."""
    options: dict[str, Any] = {"rights": ["deny"], "timeout": 1, "on_failure": "closed"}
    del options[missing]

    with pytest.raises(TypeError, match=missing):
        hook("before_tool", **options)


def test_a_security_hook_cannot_fail_open() -> None:
    """A guard that looks away when it stumbles guards nothing."""
    with pytest.raises(ConfigError) as refused:
        declared(security=True, on_failure="open")

    assert refused.value.code == "E_HOOK_OPEN"


def gives(call: Any) -> Any:
    yield call


async def gives_slowly(call: Any) -> Any:
    yield call


@pytest.mark.parametrize(
    "function", [None, 5, lambda: None, lambda a, b: None, gives, gives_slowly, "cap"]
)
def test_what_cannot_be_asked_is_no_hook(function: Any) -> None:
    """It would fail at its first call, in the middle of a run."""
    with pytest.raises((ConfigError, InvalidInput)) as refused:
        hook("before_tool", rights=["deny"], timeout=1, on_failure="open", name="h")(function)

    assert refused.value.code == "E_HOOK_DECLARATION"


@pytest.mark.parametrize("name", ["", "a b", "x" * 65, "gatebook.x", "cäp", 5])
def test_names_are_plain(name: Any) -> None:
    """They stand in journals, and people tell hooks apart by them."""
    with pytest.raises(InvalidInput) as refused:
        declared(name=name)

    assert refused.value.code in ("E_HOOK_NAME", "E_NAME_CONFUSABLE", "E_NAME_RESERVED")


def test_two_hooks_of_one_name_are_refused() -> None:
    """An answer in the journal would be of either."""
    with pytest.raises(ConfigError) as refused:
        Hooks([declared(name="cap"), declared(name="cap", point="after_tool")])

    assert refused.value.code == "E_HOOK_DUPLICATE"


def test_a_bare_function_is_no_hook() -> None:
    """It declares nothing."""
    bare: Any = [lambda call: None]

    with pytest.raises(ConfigError) as refused:
        Hooks(bare)

    assert refused.value.code == "E_HOOK_DECLARATION"


def test_a_declared_hook_says_what_it_is() -> None:
    """And can be called as the function it is, in a unit test."""

    @hook(
        "before_tool", rights={"deny"}, timeout=timedelta(milliseconds=1500), on_failure="closed",
        security=True, tools=["pay"],
    )  # fmt: skip
    def cap(call: BeforeTool) -> Deny | None:
        return Deny("too much") if call.args["amount"] > 5 else None

    spec = cap.spec
    assert (spec.name, spec.point, spec.timeout_ms, spec.security) == (
        "cap", "before_tool", 1500, True,
    )  # fmt: skip
    assert (spec.sees("pay"), spec.sees("look")) == (True, False)
    assert cap(BeforeTool(**TOLD, tool="pay", args={"amount": 6})) == Deny("too much")


class Asked:
    """An object with an async call."""

    async def __call__(self, call: Any) -> None:
        """Let it pass."""


async def waits(call: Any) -> None:
    """Let it pass."""


@pytest.mark.parametrize(
    ("function", "is_async"),
    [(waits, True), (functools.partial(waits), True), (Asked(), True), (lambda call: None, False)],
)
def test_async_functions_are_told_from_blocking_ones(
    function: Callable[..., Any], is_async: bool
) -> None:
    """The one is awaited, the other goes to a thread of its own."""
    made = hook("before_tool", rights=["deny"], timeout=1, on_failure="open", name="h")(function)

    assert made.is_async is is_async


def test_hooks_are_asked_in_the_order_they_were_given_in() -> None:
    """Neither names nor points change it."""
    first, second = declared(name="z"), declared(name="a")
    after = declared(name="b", point="after_tool", tools=["look"])
    hooks = Hooks([first, after, second])

    assert hooks.at("before_tool", "pay") == (first, second)
    assert hooks.at("after_tool", "pay") == ()
    assert hooks.at("after_tool", "look") == (after,)
    assert hooks.named == {"look": "b"}


def test_every_point_can_be_declared() -> None:
    """None of the six is a word only."""
    assert [all_rights(point).spec.point for point in POINTS] == list(POINTS)
    assert canonical(sorted(POSSIBLE)) == canonical(sorted(POINTS))
