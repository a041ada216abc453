"""What somebody's own policy answers, looked into before anything of it is written down."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import pytest

from gatebook.errors import ConfigError
from gatebook.kernel.approvals.terms import DeferTerms
from gatebook.kernel.codec import NULL, Raw, plain
from gatebook.kernel.decisions import joined
from gatebook.kernel.events import kind_of
from gatebook.kernel.policies import AllowDeclared
from gatebook.kernel.policy import Decision, Policy, policy_digest, policy_name
from gatebook.kernel.results import judge_result
from gatebook.kernel.stored import decode, stamp, written
from tests.kernel.test_gate import Says, admitted, call, grounds, refused


class Yes(StrEnum):
    YES = "allow"


ODD_FIELDS = [
    {"verdict": "maybe"},
    {"verdict": ["allow"]},
    {"reason": ValueError("no")},
    {"reason": datetime(2026, 1, 1, tzinfo=UTC)},
    {"reason": "\ud800"},
    {"rule": 5},
    {"code": None},
    {"shadow": ""},
    {"facts": {"n": 5}},
    {"facts": object()},
    {"labels": "untrusted"},
    {"approvals": 5},
    {"defers": (DeferTerms(signal="\ud800"),)},
    {"args": {"n": 2}},
    {"args": b'{"n":2}'},
    {"args": Raw(b"{")},
    {"args": Raw(b'{"n":2},"rule":"other"')},
    {"patch": None},
    {"patch": Raw(b"[{")},
    {"patch": Raw(b'{"op":"add"}')},
]


@pytest.mark.parametrize("odd", ODD_FIELDS, ids=range(len(ODD_FIELDS)))
@pytest.mark.parametrize("verdict", ["allow", "modify", "ask", "defer", "interrupt", "deny"])
def test_a_decision_that_no_event_can_hold_is_a_deny(verdict: Any, odd: dict[str, Any]) -> None:
    """Written down it would make the journal unreadable, for good."""
    policy = Says(Decision(**{"verdict": verdict, "args": Raw(b'{"n":2}')} | odd))

    policy.result = lambda *_, **__: policy.answers[0]  # type: ignore[method-assign]

    event = refused(call(n=1), policy, watch=lambda: 0.0)
    judged = judge_result("0", call(n=1), "read", Raw(b"1"), grounds(policy, watch=lambda: 0.0))

    assert event.error.code == "E_POLICY_DECISION"
    assert next(iter(odd)) in event.error.message
    assert kind_of(decode(written(event, stamp(0, 1)), run="r", seq=1)) == "action_denied"
    assert judged.withheld


@pytest.mark.parametrize(
    "sound",
    [
        Decision("allow", labels=("a",), facts={"n": "5"}, shadow="deny"),
        Decision("allow", rule="open"),
        Decision(Yes.YES),  # type: ignore[arg-type]
        Decision("modify", args=Raw(b' {"n":2} '), patch=Raw(b" [] ")),
    ],
)
def test_a_decision_of_the_declared_types_counts(sound: Decision) -> None:
    """What can be written down is not refused for how it was made."""
    policy = Says(sound, Decision.allow())

    assert admitted(call(n=1), policy, watch=lambda: 0.0).address


@pytest.mark.parametrize("patch", [b"null", b"[]", b' [ {"op":"add"} ] '])
def test_patches_of_several_rounds_are_one_list(patch: bytes) -> None:
    """However a policy spelt them: what is recorded is JSON."""
    first = joined(NULL, Decision("modify", args=Raw(b"1"), patch=Raw(patch)))

    both = plain(joined(first, Decision("modify", args=Raw(b"2"), patch=Raw(patch))))

    assert [step["op"] for step in both] in (["add", "add"], ["replace", "replace"])


def test_what_is_said_of_a_policy_can_be_stored() -> None:
    """Its name and digest stand in the first event of every run."""

    class Mute(Policy):
        name: Any = 5
        digest: Any = "\ud800"

    assert policy_name(Mute()) == "Mute"
    assert len(policy_digest(Mute())) == 64


def test_a_policy_that_cannot_say_what_it_is_may_not_be_used() -> None:
    """The caller is told so, with a code."""
    policy = AllowDeclared()
    policy.name = 5  # type: ignore[assignment]

    with pytest.raises(ConfigError) as caught:
        policy_digest(policy)

    assert caught.value.code == "E_POLICY_ERROR"
