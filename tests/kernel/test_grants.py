"""Grants inside the append: what one lets through, who gives it, and when it ends."""

from typing import Any

import pytest

from gatebook.kernel.actions import CallTool
from gatebook.kernel.approvals.events import Granted, GrantRevoked
from gatebook.kernel.codec import Raw
from tests.kernel.asked import Run, refused, wants


def grants(**fields: Any) -> Granted:
    facts: dict[str, Any] = {"tool": "pay", "definition": "f", "until": 10**12, "by": "ann"}
    return Granted(**facts | fields)


def test_a_grant_lets_a_request_through_until_it_ends() -> None:
    """By the store's clock, inside the append."""
    run = Run()
    run.outside(grants(until=5_000))
    request = wants(approval="", grant=2)

    run.now = 5_000
    late = refused(run, request, inside=True)
    run.now = 4_999
    run.inside(request)

    assert late == "E_GRANT_UNKNOWN"


@pytest.mark.parametrize("action", [CallTool("other", Raw(b"{}"))])
def test_a_grant_is_for_one_tool(action: CallTool) -> None:
    """Whatever the worker thinks it covers."""
    run = Run()
    run.outside(grants())

    assert refused(run, wants(action, approval="", grant=2), inside=True) == "E_GRANT_UNKNOWN"


def test_a_revoked_grant_lets_nothing_through() -> None:
    """And who revokes it a second time is told."""
    run = Run()
    run.outside(grants())
    run.outside(GrantRevoked(grant=2, by="bob"))

    assert refused(run, wants(approval="", grant=2), inside=True) == "E_GRANT_UNKNOWN"
    assert refused(run, GrantRevoked(grant=2, by="bob")) == "E_GRANT_UNKNOWN"


@pytest.mark.parametrize(
    ("fields", "code"), [({"until": 1_000}, "E_GRANT_PAST"), ({"by": ""}, "E_APPROVAL_BY")]
)
def test_a_grant_has_an_author_and_a_time_to_come(fields: Any, code: str) -> None:
    """Else it says nothing."""
    assert refused(Run(), grants(**fields)) == code


def test_a_run_holds_a_limited_number_of_grants() -> None:
    """They are stored with every append."""
    run = Run()
    run.outside(*(grants() for _ in range(100)))

    assert refused(run, grants()) == "E_GRANT_REFUSED"
