"""Back-off: integer arithmetic that never overflows, and jitter without randomness."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatebook.kernel.backoff import exponential, jittered, unit

milliseconds = st.integers(0, 2**53)


@pytest.mark.parametrize(
    ("attempt", "wait"), [(0, 50), (1, 100), (2, 200), (3, 400), (4, 500), (5, 500)]
)
def test_waits_double_up_to_the_cap(attempt: int, wait: int) -> None:
    """Base 50, cap 500."""
    assert exponential(50, 500, attempt) == wait


@given(milliseconds, milliseconds, st.integers(0, 10**6))
def test_a_wait_is_never_above_the_cap(base: int, cap: int, attempt: int) -> None:
    """Also at attempts no policy allows."""
    assert 0 <= exponential(base, cap, attempt) <= cap


@given(milliseconds, milliseconds, st.integers(0, 200))
def test_a_later_wait_is_never_shorter(base: int, cap: int, attempt: int) -> None:
    """A server that is still busy is not asked sooner."""
    assert exponential(base, cap, attempt) <= exponential(base, cap, attempt + 1)


@given(st.integers(0, 10**10), st.floats(0, 1), st.floats(0, 1, exclude_max=True))
def test_jitter_only_shortens(delay: int, ratio: float, u: float) -> None:
    """By at most its ratio; the cap holds with jitter too."""
    assert round(delay * (1 - ratio)) - 1 <= jittered(delay, ratio, u) <= delay


@given(st.integers(0, 2**53), st.floats(0, 1, exclude_max=True))
def test_without_jitter_the_wait_is_exact(delay: int, u: float) -> None:
    """A server's hint is waited to the millisecond."""
    assert jittered(delay, 0.0, u) == delay


def test_the_draw_is_the_same_in_every_process() -> None:
    """A golden value: another one would move the waits of runs that are under way."""
    assert unit("r", "0", 0) == 0.5237296807720604


@given(st.text(max_size=5), st.text(max_size=5), st.integers(0, 99))
def test_the_draw_is_in_the_unit_interval(run_id: str, address: str, attempt: int) -> None:
    """Never one: a wait of zero would be a hammer."""
    assert 0 <= unit(run_id, address, attempt) < 1


def test_actions_and_attempts_draw_differently() -> None:
    """Runs that were started together do not retry together."""
    draws = {unit(run, address, n) for run in "ab" for address in "cd" for n in range(5)}

    assert len(draws) == 20
