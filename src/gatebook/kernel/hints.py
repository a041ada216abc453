"""How long a provider asks us to wait, read from headers and bodies. No clock: `now` is given.

A hint that is zero, negative, not a number or in the past is no hint: recorded answers carry
`retry-after-ms: 0` beside `retry-after: 1`, and waiting zero would hammer.
"""

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

MAX_HINT_MS = 366 * 86_400_000  # longer is nonsense, but "longer than any cap" all the same

_NUMBER = re.compile(r"\d{1,18}(?:\.\d{1,18})?", re.ASCII)
_DURATION = re.compile(
    r"(?:(\d+(?:\.\d+)?)d)?(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m(?!s))?"
    r"(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?",
    re.ASCII,
)
_UNITS_MS = (86_400_000, 3_600_000, 60_000, 1_000, 1)
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_CLOCK = r"(\d\d):(\d\d):(\d\d)"
# The three forms of RFC 9110, 5.6.7: IMF-fixdate, RFC 850, asctime.
_IMF = re.compile(rf"\w{{3}}, (\d\d) (\w{{3}}) (\d{{4}}) {_CLOCK} GMT", re.ASCII)
_RFC850 = re.compile(rf"\w{{6,9}}, (\d\d)-(\w{{3}})-(\d\d) {_CLOCK} GMT", re.ASCII)
_ASCTIME = re.compile(rf"\w{{3}} (\w{{3}}) ([ \d]\d) {_CLOCK} (\d{{4}})", re.ASCII)


def header_hint(headers: Mapping[str, str], now: float) -> int | None:
    """Return the wait in milliseconds that an error response's (lower-case) headers ask for.

    `retry-after-ms`, else `retry-after`, else the latest reset of an exhausted bucket.
    """
    return (
        _milliseconds(headers.get("retry-after-ms"), unit_ms=1)
        or retry_after(headers.get("retry-after"), now)
        or _anthropic_reset(headers, now)
        or _bucket_reset(headers)
    )


def body_hint(details: tuple[Any, ...]) -> int | None:
    """Return the wait of a google.rpc.RetryInfo among an error's details, in milliseconds."""
    for detail in details:
        if isinstance(detail, dict) and isinstance(detail.get("retryDelay"), str):
            return duration_ms(detail["retryDelay"])
    return None


def retry_after(value: str | None, now: float) -> int | None:
    """Return a `retry-after` in milliseconds: seconds (decimals too) or an HTTP-date."""
    if value is None:
        return None
    return _milliseconds(value, unit_ms=1_000) or _until(_http_date(value.strip()), now)


def duration_ms(text: str) -> int | None:
    """Return a duration like "6m0s", "76ms" or "45.8s" in milliseconds."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        return None
    units = zip(match.groups(), _UNITS_MS, strict=True)
    return _bounded(sum(float(number) * unit for number, unit in units if number))


def _milliseconds(value: str | None, *, unit_ms: int) -> int | None:
    text = (value or "").strip()
    return _bounded(float(text) * unit_ms) if _NUMBER.fullmatch(text) else None


def _bounded(ms: float) -> int | None:
    """Whole milliseconds, rounded up: waiting too short is a wasted attempt."""
    if not ms > 0:
        return None
    return math.ceil(round(min(ms, MAX_HINT_MS), 6))


def _until(then: datetime | None, now: float) -> int | None:
    return None if then is None else _bounded((then.timestamp() - now) * 1_000)


def _bucket_reset(headers: Mapping[str, str]) -> int | None:
    resets = [
        duration_ms(headers.get(f"x-ratelimit-reset-{bucket}", ""))
        for bucket in ("requests", "tokens")
        if _is_zero(headers.get(f"x-ratelimit-remaining-{bucket}"))
    ]
    return max((reset for reset in resets if reset), default=None)


def _anthropic_reset(headers: Mapping[str, str], now: float) -> int | None:
    resets: list[int] = []
    for name, value in headers.items():
        if not (name.startswith("anthropic-ratelimit-") and name.endswith("-reset")):
            continue
        if _is_zero(headers.get(name.removesuffix("-reset") + "-remaining")):
            reset = _until(_rfc3339(value), now)
            resets += [reset] if reset else []
    return max(resets, default=None)


def _is_zero(value: str | None) -> bool:
    text = (value or "").strip()
    return bool(_NUMBER.fullmatch(text)) and float(text) == 0


def _rfc3339(text: str) -> datetime | None:
    try:
        then = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    return then if then.tzinfo is not None else None


def _http_date(text: str) -> datetime | None:
    if match := _IMF.fullmatch(text):
        day, month, year, *clock = match.groups()
    elif match := _RFC850.fullmatch(text):
        day, month, short, *clock = match.groups()
        year = f"20{short}"
    elif match := _ASCTIME.fullmatch(text):
        month, day, *clock, year = match.groups()
    else:
        return None
    hour, minute, second = (int(part) for part in clock)
    try:
        start = datetime(int(year), _MONTHS.index(month) + 1, int(day), hour, minute, tzinfo=UTC)
        return start + timedelta(seconds=second)  # second 60 is the one after
    except (ValueError, OverflowError):
        return None
