"""Back-off: how long to wait before the next attempt, as arithmetic on integers.

The wait is chosen once, journaled, and never drawn again; its jitter comes from the action's
identity, so runs do not retry in step and replay needs no randomness (docs/design.md, "Retries").
"""

import hashlib

MAX_ATTEMPTS = 100  # no policy, however wrong, repeats an action for ever


def exponential(base_ms: int, cap_ms: int, attempt: int) -> int:
    """Return min(cap, base * 2**attempt) in milliseconds; `attempt` counts from 0."""
    return min(cap_ms, base_ms << min(attempt, 62))


def unit(run_id: str, address: str, attempt: int) -> float:
    """Return a number in [0, 1) that depends on the action and the attempt only."""
    seed = hashlib.sha256(f"{run_id}/{address}/{attempt}".encode()).digest()
    return int.from_bytes(seed[:6], "big") / (1 << 48)


def jittered(delay_ms: int, ratio: float, u: float) -> int:
    """Return `delay * (1 - ratio * u)`: never longer than the delay itself."""
    return round(delay_ms * (1.0 - ratio * u))
