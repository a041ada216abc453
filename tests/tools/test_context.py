"""What a tool sees of its attempt."""

import pytest

from gatebook.tools import ToolContext


def test_a_context_can_be_built_for_a_unit_test() -> None:
    """Testing a tool needs its dependencies and a key, nothing else."""
    ctx = ToolContext(deps="bank", idempotency_key="k1")

    assert (ctx.deps, ctx.attempt, ctx.cancelled, ctx.remaining()) == ("bank", 0, False, None)


def test_a_parametrised_context_can_be_built() -> None:
    """`ToolContext[Deps](...)` is how typed code writes it."""
    assert ToolContext[str](deps="bank", idempotency_key="k1").deps == "bank"


def test_remaining_counts_down_to_zero() -> None:
    """A tool passes it on as the timeout of its own calls, which cannot be negative."""
    clock = [10.0]
    ctx = ToolContext(deps=None, idempotency_key="k", deadline=12.5, monotonic=lambda: clock[0])

    before = ctx.remaining()
    clock[0] = 20.0

    assert (before, ctx.remaining()) == (2.5, 0.0)


def test_a_context_cannot_be_changed() -> None:
    """A tool that sets its key would only deceive itself."""
    ctx = ToolContext(deps=None, idempotency_key="k")

    with pytest.raises(AttributeError):
        ctx.idempotency_key = "other"  # type: ignore[misc]


def test_progress_without_a_listener_is_dropped() -> None:
    """Unit tests need no sink."""
    ToolContext(deps=None, idempotency_key="k").progress(done=1, total=2)


def test_a_context_does_not_print_its_dependencies() -> None:
    """They hold clients and credentials; contexts end up in logs."""
    ctx = ToolContext(deps="s3cret", idempotency_key="k", context={"user": "u7"})

    assert "s3cret" not in repr(ctx)
    assert "u7" not in repr(ctx)
