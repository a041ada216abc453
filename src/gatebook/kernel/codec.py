"""Canonical JSON, digests and ids: how values become the bytes that are stored and hashed.

Knows JSON and sha256; knows nothing of events, runs or tools.
"""

import hashlib
import json
import unicodedata
from functools import lru_cache
from typing import Any

import msgspec

from gatebook.errors import InvalidInput

MAX_DEPTH = 64  # nesting of lists and objects; deeper text is an attack or a bug
INT_MIN, INT_MAX = -(2**63), 2**63 - 1  # what every JSON reader of ours keeps exactly
MAX_PAYLOAD = 8 * 1024 * 1024  # bytes of one input, argument list, result or signal
MAX_ID = 128
ID_CHARS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-:@")

_encode = msgspec.json.Encoder(order="deterministic").encode
_decode = msgspec.json.Decoder().decode

Raw = msgspec.Raw
NULL = Raw(b"null")


def canonical(value: Any, *, what: str = "value") -> bytes:
    """Return the canonical JSON bytes of a plain JSON value: sorted keys, no spaces, UTF-8.

    Raises:
        InvalidInput: E_JSON_* when the value is not JSON, E_TEXT_INVALID for a lone surrogate,
            E_PAYLOAD_TOO_LARGE above 8 MiB.
    """
    if not (_is_flat(value) if type(value) is dict else _is_simple(value)):
        _check(value, "$", 0, [])
    try:
        data = _encode(value)
    except UnicodeEncodeError as exc:
        raise InvalidInput("E_TEXT_INVALID", path=what) from exc
    return data if len(data) <= MAX_PAYLOAD else bounded(data, what=what)


def bounded(data: bytes, *, what: str) -> bytes:
    """Return `data` unchanged, or refuse it when it is larger than 8 MiB."""
    if len(data) > MAX_PAYLOAD:
        raise InvalidInput("E_PAYLOAD_TOO_LARGE", what=what, size=len(data), limit=MAX_PAYLOAD)
    return data


def _check(value: Any, path: str, depth: int, above: list[Any]) -> None:
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return
    if kind is int:
        if not INT_MIN <= value <= INT_MAX:
            raise InvalidInput("E_JSON_INT_RANGE", path=path)
        return
    if kind is float:
        if value != value or value in (float("inf"), float("-inf")):
            raise InvalidInput("E_JSON_NUMBER", path=path)
        return
    if kind is not dict and kind is not list and kind is not tuple:
        raise InvalidInput("E_JSON_TYPE", path=path, value=value)
    if above and any(value is outer for outer in above):
        raise InvalidInput("E_JSON_CYCLE", path=path)
    if depth >= MAX_DEPTH:
        raise InvalidInput("E_JSON_DEPTH", path=path[:80], limit=MAX_DEPTH)
    above.append(value)
    if kind is dict:
        for key, item in value.items():
            if type(key) is not str:
                raise InvalidInput("E_JSON_KEY", path=path, value=key)
            if not _is_simple(item):
                _check(item, f"{path}.{key}", depth + 1, above)
    else:
        for index, item in enumerate(value):
            if not _is_simple(item):
                _check(item, f"{path}[{index}]", depth + 1, above)
    above.pop()


def _is_flat(value: dict[Any, Any]) -> bool:
    """Whether an object is certainly JSON: all its values are simple, as in most."""
    for key, item in value.items():
        kind = type(item)
        if type(key) is not str:
            return False
        if kind is int:
            if not INT_MIN <= item <= INT_MAX:
                return False
        elif kind is not str and kind is not bool and item is not None:
            return False
    return True


def _is_simple(value: Any) -> bool:
    """Whether a value certainly passes: most do, and their paths need not be spelt."""
    kind = type(value)
    if kind is int:
        return bool(INT_MIN <= value <= INT_MAX)
    return kind is str or kind is bool or value is None


def parse(text: str | bytes, *, what: str = "text") -> Any:
    """Return the value of strict JSON text: no duplicate keys, no NaN, no huge integers.

    Raises:
        InvalidInput: E_JSON_SYNTAX, E_JSON_DUPLICATE_KEY, E_JSON_NUMBER, E_JSON_INT_RANGE,
            E_JSON_DEPTH, E_TEXT_INVALID or E_PAYLOAD_TOO_LARGE.
    """
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else bytes(text)
    bounded(data, what=what)
    if _depth(data) > MAX_DEPTH:
        raise InvalidInput("E_JSON_DEPTH", path=what, limit=MAX_DEPTH)
    try:
        value = _decode(data)
        if _encode(value) == data:  # canonical already: no key twice, no NaN; ten times as fast
            _check(value, "$", 0, [])
            return value
    except (msgspec.DecodeError, UnicodeError):
        pass  # the strict decoder says what is wrong
    try:
        value = _strict.decode(data.decode())
    except UnicodeDecodeError as exc:
        raise InvalidInput("E_TEXT_INVALID", path=what) from exc
    except InvalidInput as exc:
        exc.fields["path"] = what
        raise
    except json.JSONDecodeError as exc:
        raise InvalidInput("E_JSON_SYNTAX", path=what, detail=str(exc)[:120]) from exc
    except ValueError as exc:  # more digits than Python reads into an integer
        raise InvalidInput("E_JSON_INT_RANGE", path=what) from exc
    _check(value, "$", 0, [])
    try:
        _encode(value)
    except UnicodeEncodeError as exc:  # an escaped lone surrogate
        raise InvalidInput("E_TEXT_INVALID", path=what) from exc
    return value


def _pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(items)
    if len(found) != len(items):
        names = [key for key, _ in items]
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidInput("E_JSON_DUPLICATE_KEY", path="$", value=twice)
    return found


def _number(_: str) -> Any:
    raise InvalidInput("E_JSON_NUMBER", path="$")


_strict = json.JSONDecoder(object_pairs_hook=_pairs, parse_constant=_number)


def _depth(data: bytes) -> int:
    """Return the deepest nesting of brackets outside strings, without recursion."""
    deepest = level = 0
    in_string = escaped = False
    if data.count(b"[") + data.count(b"{") <= MAX_DEPTH:
        return 0
    for byte in data:
        if in_string:
            if escaped:
                escaped = False
            elif byte == 0x5C:
                escaped = True
            elif byte == 0x22:
                in_string = False
        elif byte == 0x22:
            in_string = True
        elif byte in (0x5B, 0x7B):
            level += 1
            deepest = max(deepest, level)
        elif byte in (0x5D, 0x7D):
            level -= 1
    return deepest


def plain(data: bytes | Raw) -> Any:
    """Return the value of JSON bytes that this package wrote (no strict checks)."""
    return _decode(data)


def digest(*parts: bytes | str) -> str:
    """Return the sha256 hex digest of the parts, each preceded by its length."""
    return hashlib.sha256(b"".join(map(_counted, parts))).hexdigest()


def _counted(part: bytes | str) -> bytes:
    data = part.encode() if isinstance(part, str) else part
    return b"%d:%b" % (len(data), data)


def idempotency_key(tenant: str, run_id: str, nonce: str, address: str) -> str:
    """Return the key a tool hands to its service: the same on every attempt, in every process."""
    sha = _run_digest(tenant, run_id, nonce).copy()
    sha.update(_counted(address))
    return "gb1-" + sha.hexdigest()[:40]


@lru_cache(maxsize=1_024)
def _run_digest(tenant: str, run_id: str, nonce: str) -> "hashlib._Hash":
    """Return the beginning that all keys of a run share; not to be changed."""
    return hashlib.sha256(b"".join(map(_counted, (tenant, run_id, nonce))))


def check_run_id(value: Any) -> str:
    """Return a run id the caller chose, or refuse it with its own code (E_ID_*)."""
    if not isinstance(value, str):
        raise InvalidInput("E_ID_TYPE", value=value)
    if not value:
        raise InvalidInput("E_ID_EMPTY")
    if len(value) > MAX_ID:
        raise InvalidInput("E_ID_TOO_LONG", value=value, size=len(value), limit=MAX_ID)
    try:
        value.encode()
    except UnicodeEncodeError as exc:
        raise InvalidInput("E_TEXT_INVALID", path="run id") from exc
    if unicodedata.normalize("NFC", value) != value:
        raise InvalidInput("E_ID_NOT_NFC", value=value)
    if not ID_CHARS.issuperset(value):
        raise InvalidInput("E_ID_CHARS", value=value)
    return value


def check_signal_name(value: Any) -> str:
    """Return the name of a signal, or refuse it (E_SIGNAL_NAME)."""
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_ID or not set(value) <= ID_CHARS:
        raise InvalidInput("E_SIGNAL_NAME", value=value)
    return value


def check_name(value: Any, *, code: str) -> str:
    """Return a tool or program name, or refuse it with `code` or a more precise one."""
    if not isinstance(value, str) or not 1 <= len(value) <= 64:
        raise InvalidInput(code, value=value)
    if not value.isascii():
        raise InvalidInput("E_NAME_CONFUSABLE", value=value)
    if not all(char.isalnum() or char in "_-." for char in value):
        raise InvalidInput(code, value=value)
    if value.lower().startswith("gatebook."):
        raise InvalidInput("E_NAME_RESERVED", value=value)
    return value
