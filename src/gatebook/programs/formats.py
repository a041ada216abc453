"""The `format`s of JSON Schema that are checked, each by a fixed, linear-time reading of the text.

The shapes are those of RFC 3339, 4122, 5321 (loosely), 1123 and 3986 (the scheme alone).
"""

import datetime
import ipaddress
import re
from collections.abc import Callable

DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
CLOCK = re.compile(r"\d{2}:\d{2}:\d{2}(\.\d{1,9})?(Z|z|[+-]\d{2}:\d{2})", re.ASCII)
SPAN = re.compile(
    r"P(?=[\dT])(\d+W|(\d+Y)?(\d+M)?(\d+D)?(T(?=\d)(\d+H)?(\d+M)?(\d+S)?)?)", re.ASCII
)
UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
MAIL = re.compile(r"[^@\s]{1,64}@[^@\s]{1,253}")
SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[!-~]*")
LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")


def _day(text: str) -> bool:
    if not DAY.fullmatch(text):
        return False
    try:
        datetime.date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _clock(text: str) -> bool:
    if not CLOCK.fullmatch(text):
        return False
    hour, minute, second = int(text[:2]), int(text[3:5]), int(text[6:8])
    offset = text[-5:] if text[-1] not in "Zz" else "00:00"
    return (
        hour < 24
        and minute < 60
        and second <= 60  # a leap second is a time
        and int(offset[:2]) < 24
        and int(offset[3:]) < 60
    )


def _moment(text: str) -> bool:
    return text[10:11] in ("T", "t", " ") and _day(text[:10]) and _clock(text[11:])


def _address(text: str, kind: type[ipaddress.IPv4Address | ipaddress.IPv6Address]) -> bool:
    try:
        kind(text)
    except ValueError:
        return False
    return "%" not in text


def _hostname(text: str) -> bool:
    return len(text) <= 253 and all(LABEL.fullmatch(part) for part in text.split("."))


FORMATS: dict[str, Callable[[str], bool]] = {
    "date": _day,
    "date-time": _moment,
    "time": _clock,
    "duration": lambda text: SPAN.fullmatch(text) is not None,
    "uuid": lambda text: UUID.fullmatch(text) is not None,
    "email": lambda text: MAIL.fullmatch(text) is not None,
    "uri": lambda text: SCHEME.fullmatch(text) is not None,
    "hostname": _hostname,
    "ipv4": lambda text: _address(text, ipaddress.IPv4Address),
    "ipv6": lambda text: _address(text, ipaddress.IPv6Address),
}
