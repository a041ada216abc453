"""Redaction: secrets are cut out where data enters, before it is hashed, stored or shown.

Three sources: values registered by the runtime (provider keys, `secrets=`), a short list of
precise patterns, and a short list of key names whose text values are always secret.
"""

import json
import re
import string
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import quote, quote_plus

import msgspec

from gatebook.kernel.codec import canonical, plain

MARK = "[redacted:{}]"
MARKED = MARK.partition("{")[0]  # how every mark begins
MIN_SECRET = 8  # shorter registered values would cut ordinary words to pieces
MIN_BEGINNING = 16  # characters of a longer value that give it away where a text was cut
REFERENCE = re.compile(r"secret://([A-Za-z0-9_.-]{1,64})")  # what stands for a secret, in full
PERCENT = re.compile(r"%[0-9A-F]{2}")
TO_URLS = str.maketrans("+/", "-_")  # the two alphabets of base64
# What is written as it is in a URL, beside letters, digits and -._~, by who writes it: most of
# them, in paths, JavaScript's encodeURIComponent, and RFC 3986 in a segment and in a path.
KEPT_IN_URLS = ("", "/", "!'()*", "!$&'()*+,;=:@", "/!$&'()*+,;=:@")
# What JSON need not spell by number, and Go, .NET and PHP do by default or on demand.
SPELT_IN_JSON = ("<>&", "<>&'+`\"")

# Formats published by their vendors; each is anchored on a prefix no prose contains by chance.
PATTERNS = {
    "aws-key": r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",
    "github-token": r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{22,})",
    "slack-token": r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}",
    "api-key": r"\bsk-(?:ant-|proj-|or-)?[A-Za-z0-9_-]{20,}",
    "stripe-key": r"\b[rs]k_(?:live|test)_[A-Za-z0-9]{16,}",
    "google-key": r"\bAIza[A-Za-z0-9_-]{35}",
    "jwt": r"\beyJ[A-Za-z0-9_-]{8,}+\.eyJ[A-Za-z0-9_-]{8,}+\.[A-Za-z0-9_-]{8,}",
    "private-key": (
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----[A-Za-z0-9+/=\s\\]*"
        r"(?:-----END [A-Z ]*PRIVATE KEY-----)?"
    ),
}
# How each of these can begin. Every alternative starts with a plain character and there is no \b:
# only then does `re` skip over innocent text (10 us a KB instead of 140). None looks at more than a
# few characters: somebody may write nothing but beginnings.
BEGINNINGS = (
    r"AKIA|ASIA|gh[pousr]_[A-Za-z0-9]{36}|github_pat_|xox[abeoprs]-|sk-[A-Za-z0-9_-]{20}"
    r"|sk_(?:live|test)_|rk_(?:live|test)_|AIza|eyJ[A-Za-z0-9_-]{8}|-----BEGIN"
)
MIN_BEGUN = 4  # characters of a registered value that are looked for before all of it is
RUN = string.ascii_letters + string.digits + "_-"  # what the parts of a JWT, and most keys, are of
JWT = re.compile(r"\beyJ[A-Za-z0-9_-]*+")
JWT_PARTS = 3
MIN_MATCH = 15  # characters; nothing shorter fits any of the patterns


def _begun(literal: str, rest: str) -> str:
    """Return a pattern of every beginning of `literal`, and of all of it and then `rest`."""
    return (
        literal[0]
        + "".join(f"(?:{re.escape(c)}" for c in literal[1:])
        + (f"(?:{rest})?" + ")?" * (len(literal) - 1))
    )


# What may still become one of PATTERNS, or become a longer one, when more text follows. A text that
# fits none of these to its end is settled; to fit too much only delays it.
_ENDING = _begun("-----END ", r"[A-Z ]*+-{0,4}")
_WORDS = "|".join(
    (
        _begun("AKIA", r"[A-Z0-9]{0,16}+"),
        _begun("ASIA", r"[A-Z0-9]{0,16}+"),
        r"g(?:h(?:[pousr](?:_[A-Za-z0-9]*+)?)?)?",
        _begun("github_pat_", r"[A-Za-z0-9_]*+"),
        r"x(?:o(?:x(?:[abeoprs](?:-[A-Za-z0-9-]*+)?)?)?)?",
        _begun("sk-", r"[A-Za-z0-9_-]*+"),
        _begun("sk_live_", r"[A-Za-z0-9]*+"),
        _begun("sk_test_", r"[A-Za-z0-9]*+"),
        _begun("rk_live_", r"[A-Za-z0-9]*+"),
        _begun("rk_test_", r"[A-Za-z0-9]*+"),
        _begun("AIza", r"[A-Za-z0-9_-]{0,34}+"),
        _begun(
            "eyJ",
            r"[A-Za-z0-9_-]*+(?:\.(?:"
            + _begun("eyJ", r"[A-Za-z0-9_-]*+(?:\.[A-Za-z0-9_-]*+)?")
            + ")?)?",
        ),
    )
)
_BLOCK = _begun(
    "-----BEGIN ",
    rf"[A-Z ]*+(?:-----[A-Za-z0-9+/=\s\\]*+(?:{_ENDING})?|-{{1,4}})?",
)
# The first two characters of every pattern, or the first alone at the end of a text.
GLANCES = r"A[KSI]|g[hi]|xo|sk|rk|ey|--|[Agxsre](?<!\w.)\Z|-\Z"  # a word's last letter begins none
OPENINGS = re.compile(rf"\b(?:{_WORDS})\Z")
BLOCKS = re.compile(rf"{_BLOCK}\Z")
KEY_NAMES = frozenset({
    "password", "passwd", "passphrase", "api_key", "apikey", "api-key", "secret", "client_secret",
    "access_token", "refresh_token", "auth_token", "authorization", "private_key", "secret_key",
})  # fmt: skip


def references(value: Any) -> Iterator[str]:
    """Yield the name of every secret that plain JSON refers to, by texts that say nothing else."""
    if isinstance(value, str):
        found = REFERENCE.fullmatch(value)
        if found is not None:
            yield found[1]
    elif isinstance(value, list | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from references(item)


def forms(secret: str) -> set[str]:
    """Return how a value may be written: as it is, in JSON, in a URL, in hex, within base64."""
    data = secret.encode("utf-8", "surrogatepass")
    urls = {quote(data, safe=kept) for kept in KEPT_IN_URLS}
    urls |= {quote_plus(data), quote_plus(data, safe="*")}
    urls |= {url.replace("~", "%7E") for url in urls}
    urls |= {PERCENT.sub(lambda found: found[0].lower(), url) for url in urls}
    escaped = {json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}
    escaped |= {text.replace("/", "\\/") for text in escaped}
    escaped |= {_spelt(secret, chars, number) for chars in SPELT_IN_JSON for number in ("x", "X")}
    escaped |= {json.dumps(text)[1:-1] for text in escaped}  # JSON as a text within JSON
    hexes = {data.hex(), data.hex().upper()}
    return {secret, repr(secret)[1:-1]} | escaped | urls | hexes | set(_base64(data))


def _spelt(text: str, chars: str, number: str) -> str:
    """Return a text as JSON that spells some characters by their numbers."""
    return "".join(
        f"\\u{ord(c):04{number}}" if c in chars or "~" < c <= "\uffff" else json.dumps(c)[1:-1]
        for c in text
    )


def _base64(data: bytes) -> Iterator[str]:
    """Yield what any base64 that holds the data must hold: it begins at one of three places."""
    for lead, first in enumerate((0, 2, 3)):  # characters that also say what stands before it
        text = b64encode(bytes(lead) + data).decode()
        core = text[first : (lead + len(data)) * 8 // 6]
        yield core
        yield core.translate(TO_URLS)


class Redactor:
    """Cuts known secrets out of JSON bytes and texts."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self.learn(secrets)

    def add(self, secrets: Iterable[str]) -> None:
        """Take these as registered secrets too."""
        new = {secret for secret in secrets if len(secret) >= MIN_SECRET} - self._known
        if new:
            self.learn(self._known | new)

    def forget(self, secrets: Iterable[str]) -> None:
        """Take these no longer as registered secrets."""
        kept = self._known.difference(secrets)
        if len(kept) < len(self._known):
            self.learn(kept)

    def learn(self, secrets: Iterable[str]) -> None:
        """Take these as the registered secrets from now on."""
        known = self._known = frozenset(s for s in secrets if len(s) >= MIN_SECRET)
        escaped = {form for secret in known for form in forms(secret)}
        self._registered = sorted(sorted(escaped), key=len)[::-1]
        self._needles = [form.encode("utf-8", "surrogatepass") for form in self._registered]
        pairs = sorted({secret[:2] for secret in escaped})
        glances = [f"{re.escape(pair[0])}(?:{re.escape(pair[1])}|\\Z)" for pair in pairs]
        self.glance = re.compile("|".join([*glances, GLANCES])).search
        begun = sorted({re.escape(secret[:MIN_BEGUN]) for secret in escaped})
        self._begun = re.compile("|".join([*begun, BEGINNINGS])).search
        registered = [re.escape(secret) for secret in self._registered]
        kinds = {"registered": "|".join(registered)} if known else {}
        self._kinds = _any_of(kinds | PATTERNS)
        self._but_jwt = _any_of(
            {name: p for name, p in (kinds | PATTERNS).items() if name != "jwt"}
        )
        shortest = min([MIN_MATCH, *map(len, escaped)])
        names = "|".join(sorted(KEY_NAMES))
        self._suspect = re.compile(rf'{BEGINNINGS}|"(?i:{names})":'.encode()).search
        self._least = min(shortest, min(map(len, KEY_NAMES)) + len('{"":"?"}'))

    def text(self, text: str) -> str:
        """Return text with every secret replaced by a mark that names its kind."""
        return self.rest(text, 0)

    def _secrets(self, text: str, start: int) -> Iterator[re.Match[str]]:
        """Yield every secret from `start` on, in order; takes time in proportion to the text.

        Where a JWT might begin and does not, none begins in the rest of its first part either: that
        is not looked at again, however often it says `eyJ`.
        """
        at = no_jwt = start  # none begins before `no_jwt`
        while (begun := self._begun(text, at)) is not None:
            at = begun.start()
            found = (self._kinds if at >= no_jwt else self._but_jwt)(text, at)
            if found is not None:
                yield found
                at = found.end()
                continue
            if at >= no_jwt and (part := JWT.match(text, at)) is not None:
                no_jwt = part.end()
            at += 1

    def told(self, text: str) -> str:
        """Return a message redacted, also where it was cut in the middle of a registered secret.

        Of such a secret fewer than 16 characters stay, and less than half.
        """
        clean = self.text(text)
        for secret in self._registered:
            head = secret[: max(MIN_SECRET, min(MIN_BEGINNING, len(secret) // 2))]
            at = clean.find(head)
            while at >= 0:
                end = at + len(head)
                while end < len(clean) and clean[end] == secret[end - at : end - at + 1]:
                    end += 1
                if not clean.endswith(MARKED, 0, at):
                    clean = clean[:at] + MARK.format("registered") + clean[end:]
                    end = at + len(MARK) + len("registered")
                at = clean.find(head, end)
        return clean

    def settled(self, text: str, start: int = 0) -> tuple[str, int]:
        """Return `text[start:end]` redacted, and `end`: from there on more text might change it.

        For text that comes in pieces: what is redacted so, the rest of it by `text` at the end,
        adds up to the whole text redacted. What stands before `start` was redacted already.
        """
        parts: list[str] = []
        end = self._opening(text, start)
        for found in self._secrets(text, start):
            if found.start() >= end:
                break
            parts += text[start : found.start()], _mark(found)
            start = found.end()
            if start > end:
                end = self._opening(text, start)
        return "".join([*parts, text[start:end]]), end

    def _opening(self, text: str, start: int) -> int:
        """Return where the first secret begins that `text` may be cut off in, else its end."""
        begun = BLOCKS.search(text, start)
        end = len(text) if begun is None else begun.start()
        end = min(end, _word_opening(text, start))
        for secret in self._registered:
            first = secret[0]
            at = text.find(first, max(start, len(text) - len(secret) + 1), end)
            while at >= 0:
                if secret.startswith(text[at:]):
                    end = at
                    break
                at = text.find(first, at + 1, end)
        return end

    def rest(self, text: str, start: int) -> str:
        """Return `text[start:]` redacted, as the end of a text of which more came before."""
        parts: list[str] = []
        for found in self._secrets(text, start):
            parts += text[start : found.start()], _mark(found)
            start = found.end()
        return "".join([*parts, text[start:]]) if parts else text[start:]

    def json(self, data: bytes) -> bytes:
        """Return canonical JSON bytes with every secret in them replaced."""
        if len(data) < self._least or not self._may_hold(data):
            return data
        value = plain(data)
        clean = self._value(value)
        return data if clean == value else canonical(clean)

    def _may_hold(self, data: bytes) -> bool:
        """Whether anything is to be looked at more closely; nothing is in most data."""
        for needle in self._needles:  # one pattern of all is slower
            if needle in data:
                return True
        return self._suspect(data) is not None

    def raw(self, data: msgspec.Raw) -> msgspec.Raw:
        """Return a stored value with every secret in it replaced."""
        found = bytes(data)
        clean = self.json(found)
        return data if clean is found else msgspec.Raw(clean)

    def _value(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list):
            return [self._value(item) for item in value]
        if isinstance(value, dict):
            return {self.text(k): self._field(k, v) for k, v in value.items()}
        if type(value) in (int, float):
            digits = json.dumps(value)
            clean = self.text(digits)
            return value if clean == digits else clean
        return value

    def _field(self, key: str, value: Any) -> Any:
        if key.lower() in KEY_NAMES and isinstance(value, str) and value:
            known = value.startswith(MARKED) or REFERENCE.fullmatch(value) is not None
            return value if known else MARK.format(key.lower())
        return self._value(value)


def _any_of(kinds: dict[str, str]) -> Callable[[str, int], re.Match[str] | None]:
    """Return what finds a secret of one of these kinds at one place of a text."""
    parts = [f"(?P<{name.replace('-', '_')}>{pattern})" for name, pattern in kinds.items()]
    return re.compile("|".join(parts)).match


def _word_opening(text: str, start: int) -> int:
    """Return where a key begins that `text` may be cut off in, else its end.

    That is in the last run of the characters of keys; of a JWT, whose parts are such runs, also up
    to two runs before. In each of these the first place decides for the others.
    """
    run = max(start, len(text.rstrip(RUN)))
    begun = OPENINGS.search(text, run)
    end = len(text) if begun is None else begun.start()
    for _ in range(JWT_PARTS - 1):
        if run <= start or text[run - 1] != ".":
            break
        last, run = run - 1, max(start, len(text[: run - 1].rstrip(RUN)))
        part = JWT.search(text, run, last)
        if part is not None and OPENINGS.match(text, part.start()):
            end = part.start()
    return end


def _mark(match: re.Match[str]) -> str:
    return MARK.format((match.lastgroup or "secret").replace("_", "-"))
