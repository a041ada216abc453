"""Paths and hosts: which place a text means, or that this cannot be said safely.

Every question is answered True, False or None: None whenever two programs could read the text
differently. Lexical only: links and name servers are the executor's to check again.
"""

import unicodedata
from ipaddress import IPv4Address, IPv6Address, ip_address

import msgspec

MAX_PLACE = 4_096  # characters of a path or URL; PATH_MAX of Linux
DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443, "ftp": 21}
_SCHEME = frozenset("abcdefghijklmnopqrstuvwxyz0123456789+-.")
_LABEL = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_")
_LETTERS = frozenset({"Ll", "Lo", "Lm", "Mn", "Mc", "Nd"})  # what an IDNA label is made of


class PlaceError(ValueError):
    """A folder or host in a policy is not one; the text says why."""


class Host(msgspec.Struct, frozen=True):
    """Where a URL leads: a name in lower-case ASCII or a canonical IP, and a port if it says so."""

    name: str
    port: int | None
    is_ip: bool = False
    default_port: int | None = None


class HostPattern(msgspec.Struct, frozen=True):
    """What a policy lists: a name, `*.name` for what lies under it, or an IP; with or without port.

    `port` None is the scheme's own port, -1 is any.
    """

    name: str
    port: int | None
    is_ip: bool = False
    under: bool = False


def normal_path(text: str) -> str | None:
    """Return a POSIX path without `.` and doubled slashes, or None for one that is not plain.

    Not plain are: nothing, `..`, NUL and other control characters, backslashes, a leading `~`.
    """
    if not text or len(text) > MAX_PLACE or text[0] == "~" or "\\" in text:
        return None
    if any(ord(char) < 32 or ord(char) == 127 for char in text):
        return None
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if ".." in parts:
        return None
    return ("/" if text[0] == "/" else "") + "/".join(parts)


def folder(text: str) -> str:
    """Return a folder of a policy in normal form.

    Raises:
        PlaceError: it is not a plain path.
    """
    found = normal_path(text)
    if found is None:
        raise PlaceError("it is empty or holds '..', '~', a backslash or a control character")
    return found


def is_within(text: str, base: str) -> bool | None:
    """Whether a path is `base` or lies in it; None when it is not plain or only nearly the same.

    An absolute path says nothing about a relative base, and the other way round. A path that
    differs only in case or Unicode form may be the same file on some file systems: None.
    """
    path = normal_path(text)
    if path is None or path.startswith("/") is not base.startswith("/"):
        return None
    if _holds(base, path):
        return True
    return None if _holds(_folded(base), _folded(path)) else False


def _holds(base: str, path: str) -> bool:
    return path == base or path.startswith(base if base in ("", "/") else base + "/")


def _folded(path: str) -> str:
    return unicodedata.normalize("NFKC", path).casefold()


def read_host(text: str) -> Host | None:
    """Return where a URL, or a bare `host` or `host:port`, leads; None when it is not plain.

    Not plain are: user-info, backslashes, blanks and control characters, percent signs in the
    host, numbers that some readers take for an IP address, and names IDNA would change.
    """
    if len(text) > MAX_PLACE or "\\" in text:
        return None
    if any(ord(char) <= 32 or ord(char) == 127 for char in text):
        return None
    scheme, mark, rest = text.partition("://")
    if not mark:
        scheme, rest = "", text
        if any(char in "/?#" for char in text) or text.partition(":")[0] in DEFAULT_PORTS:
            return None
    elif not _is_scheme(scheme):
        return None
    ends = [at for char in "/?#" if (at := rest.find(char)) >= 0]
    authority = rest[: min(ends)] if ends else rest
    if "@" in authority or "%" in authority:
        return None
    found = _host_port(authority)
    if found is None:
        return None
    return msgspec.structs.replace(found, default_port=DEFAULT_PORTS.get(scheme.lower()))


def _is_scheme(text: str) -> bool:
    low = text.lower()
    return bool(low) and low[0].isascii() and low[0].isalpha() and _SCHEME.issuperset(low)


def _host_port(authority: str) -> Host | None:
    if authority.startswith("["):
        inner, bracket, tail = authority[1:].partition("]")
        address = _ip(inner) if bracket else None
        if address is None or ":" not in inner:
            return None
        port = _port(tail) if tail.startswith(":") else None
        if tail and port is None:
            return None
        return Host(address, port, is_ip=True)
    name, colon, _ = authority.partition(":")
    port = _port(authority[len(name) :]) if colon else None
    if colon and port is None:
        return None
    address = _ip(name)
    if address is not None:
        return Host(address, port, is_ip=True)
    plain = _name(name)
    return None if plain is None else Host(plain, port)


def _port(text: str) -> int | None:
    digits = text[1:]
    if not digits.isascii() or not digits.isdigit() or len(digits) > 5:
        return None
    port = int(digits)
    return port if 0 < port <= 65_535 else None


def _ip(text: str) -> str | None:
    """Return the one spelling of an IP address; IPv4 inside IPv6 is that IPv4 address."""
    try:
        address: IPv4Address | IPv6Address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            return None
        return str(address.ipv4_mapped or address)
    return str(address)


def _name(text: str) -> str | None:
    """Return a host name in lower-case ASCII without its trailing dot, or None."""
    name = text[:-1] if text.endswith(".") else text
    labels = [_label(label) for label in name.split(".")]
    plain = ".".join(label or "" for label in labels)
    if None in labels or len(plain) > 253:
        return None
    last = plain.rpartition(".")[2]
    if last.isdigit() or (last.startswith("0x") and _is_hex(last[2:])):
        return None  # browsers and C libraries read 0x7f.1 and 2130706433 as addresses
    return plain


def _is_hex(text: str) -> bool:
    return all(char in "0123456789abcdef" for char in text)


def _label(text: str) -> str | None:
    if text.isascii():
        low = text.lower()
        plain = low
    else:
        low = unicodedata.normalize("NFC", text.lower())
        if unicodedata.normalize("NFKC", low).casefold() != low:
            return None  # sharp s, final sigma, full-width: IDNA versions disagree
        if any(unicodedata.category(char) not in _LETTERS for char in low if char not in _LABEL):
            return None
        plain = "xn--" + low.encode("punycode").decode("ascii")
    fits = 0 < len(plain) <= 63 and _LABEL.issuperset(plain)
    return plain if fits and plain[0] != "-" and plain[-1] != "-" else None


def host_pattern(text: str) -> HostPattern:
    """Return a host of a policy: `example.com`, `*.example.com`, `10.0.0.7`, `[::1]:8080`, `a:*`.

    Raises:
        PlaceError: it is not one of these.
    """
    under = text.startswith("*.")
    rest = text[2:] if under else text
    any_port = rest.endswith(":*")
    found = None if "/" in rest else read_host(rest[:-2] if any_port else rest)
    if found is None:
        raise PlaceError("write a host without scheme and path: 'example.com' or '*.example.com'")
    if under and found.is_ip:
        raise PlaceError("nothing lies under an IP address")
    return HostPattern(found.name, -1 if any_port else found.port, found.is_ip, under)


def is_host(found: Host | None, pattern: HostPattern) -> bool | None:
    """Whether a host is the listed one.

    None when it cannot be said: a host that is not plain, the right name on a port that is not
    listed, and an IP address that is not listed (it may belong to any name).
    """
    if found is None:
        return None
    if found.is_ip or pattern.is_ip:
        if not (found.is_ip and pattern.is_ip):
            return None if found.is_ip else False
        named = found.name == pattern.name
        return _on_port(found, pattern) if named else None
    if pattern.under:
        named = found.name.endswith("." + pattern.name)
    else:
        named = found.name == pattern.name
    return _on_port(found, pattern) if named else False


def _on_port(found: Host, pattern: HostPattern) -> bool | None:
    if pattern.port == -1:
        return True
    port = found.port if found.port is not None else found.default_port
    wanted = pattern.port if pattern.port is not None else found.default_port
    if pattern.port is None and found.port is None:
        return True
    return True if port == wanted else None
