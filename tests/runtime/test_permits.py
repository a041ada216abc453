"""Permits: one committed request is one call, of its very bytes, under a fresh lease."""

import math
from typing import Any

import pytest
from tests.programs.play import Echo
from tests.runtime.kit import RUN, STARTED, run
from tests.runtime.lending import VALUE, asking

from gatebook.errors import IntegrityError
from gatebook.kernel.actions import CallTool
from gatebook.kernel.codec import MAX_PAYLOAD, Raw
from gatebook.kernel.events import ActionRequested
from gatebook.kernel.redact import Redactor
from gatebook.ports import Lease, Want
from gatebook.runtime.leases import Held
from gatebook.runtime.models.routes import Providers
from gatebook.runtime.performing.executor import Executor
from gatebook.runtime.performing.permits import Permit
from gatebook.runtime.performing.secrets import Secrets
from gatebook.runtime.subscriptions import Hub
from gatebook.testing.clock import VirtualClock

LEASE = Lease(RUN, "w", 1)


def executor() -> Executor:
    return Executor(
        providers=Providers({}, {}), hub=Hub(), redactor=Redactor(), clock=VirtualClock()
    )


class Counting(Echo):
    """A tool that counts its calls."""

    calls = 0

    async def call(self, args: bytes, invocation: Any) -> bytes:
        self.calls += 1
        return b"1"


def call(args: bytes = b"{}") -> CallTool:
    return CallTool("t", Raw(args))


def permit(*, fresh: bool = True) -> Permit:
    return Permit(
        ActionRequested(address="0", action=call()),
        0,
        Held(LEASE, lambda: 0.0, math.inf if fresh else 0.0),
    )


def test_a_permit_is_good_once() -> None:
    """One committed request, one call."""
    given = permit()
    given.use(call(), 0.0)

    with pytest.raises(IntegrityError, match="used already"):
        given.use(call(), 0.0)


def test_a_permit_is_void_under_a_stale_lease() -> None:
    """Another worker may have the run by now."""
    with pytest.raises(IntegrityError, match="lease was not renewed"):
        permit(fresh=False).use(call(), 0.0)


def test_a_permit_is_good_for_its_bytes_only() -> None:
    """What was decided about is what runs."""
    with pytest.raises(IntegrityError, match="other arguments"):
        permit().use(call(b'{"n":2}'), 0.0)


def test_a_refused_permit_stays_unused() -> None:
    """A refusal is not a call."""
    given = permit(fresh=False)

    with pytest.raises(IntegrityError):
        given.use(call(), 0.0)

    assert not given.used


@pytest.mark.parametrize("spoil", ["used", "stale"])
def test_the_executor_calls_nothing_without_a_good_permit(spoil: str) -> None:
    """The only code that calls out checks for itself."""
    made = Counting("t")
    given = permit(fresh=spoil != "stale")
    if spoil == "used":
        given.use(call(), 0.0)

    ended = run(executor().perform(given, Want("0", call()), made, STARTED))

    assert made.calls == 0
    assert ended.error is not None
    assert ended.error.code == "E_PERMIT"


def test_the_executor_calls_a_tool_with_the_stored_bytes() -> None:
    """Not with the object the program made."""
    seen: list[bytes] = []

    class Seeing(Echo):
        async def call(self, args: bytes, invocation: Any) -> bytes:
            seen.append(args)
            return b"1"

    want = Want("0", call(b'{"from":"program"}'))

    run(executor().perform(permit(), want, Seeing("t"), STARTED))

    assert seen == [b"{}"]


def test_a_lease_that_goes_stale_while_secrets_are_read_starts_nothing() -> None:
    """Their source may take its time; the lease is looked at when the tool is called."""
    clock, used = VirtualClock(), list[str]()

    async def slow() -> str:
        clock.advance(20)
        return VALUE

    redactor = Redactor()
    performs = Executor(providers=Providers({}, {}), hub=Hub(), redactor=redactor, clock=clock)
    performs.secrets = Secrets({"bank": slow}, redactor)
    pay = CallTool("pay", Raw(b'{"order":"1","token":"secret://bank"}'))
    held = Held(LEASE, clock.monotonic, clock.monotonic() + 15)
    given = Permit(ActionRequested(address="0", action=pay), 0, held)

    ended = run(performs.perform(given, Want("0", pay), asking(used), STARTED))

    assert ended.error is not None
    assert (ended.error.code, used, given.used) == ("E_PERMIT", [], False)


@pytest.mark.parametrize(("over", "code"), [(0, ""), (1, "E_RESULT_TOO_LARGE")])
def test_the_bound_on_what_is_kept_is_that_of_every_payload(over: int, code: str) -> None:
    """A tool of somebody else's making may return any number of bytes."""

    class Long(Echo):
        async def call(self, args: bytes, invocation: Any) -> bytes:
            return b'"%b"' % (b"x" * (MAX_PAYLOAD - 2 + over))

    ended = run(executor().perform(permit(), Want("0", call()), Long("t"), STARTED))

    assert (ended.error.code if ended.error else "") == code
