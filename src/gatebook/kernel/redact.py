"""Redaction: secrets are cut out where data enters, before it is hashed, stored or shown.

Three sources: values registered by the runtime (provider keys, `secrets=`), a short list of
precise patterns, and a short list of key names whose text values are always secret.
"""

import json
import re
from collections.abc import Iterable
from typing import Any

import msgspec

from gatebook.kernel.codec import canonical, plain

MARK = "[redacted:{}]"
MIN_SECRET = 8  # shorter registered values would cut ordinary words to pieces

# Formats published by their vendors; each is anchored on a prefix no prose contains by chance.
PATTERNS = {
    "aws-key": r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",
    "github-token": r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{22,})",
    "slack-token": r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}",
    "api-key": r"\bsk-(?:ant-|proj-|or-)?[A-Za-z0-9_-]{20,}",
    "stripe-key": r"\b[rs]k_(?:live|test)_[A-Za-z0-9]{16,}",
    "google-key": r"\bAIza[A-Za-z0-9_-]{35}",
    "jwt": r"\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}",
    "private-key": (
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----[A-Za-z0-9+/=\s\\]*"
        r"(?:-----END [A-Z ]*PRIVATE KEY-----)?"
    ),
}
# How each of these can begin in JSON bytes. Every alternative starts with a plain character and
# there is no \b: only then does `re` skip over innocent bytes (10 us a KB instead of 140).
BEGINNINGS = (
    r"AKIA|ASIA|gh[pousr]_[A-Za-z0-9]{36}|github_pat_|xox[abeoprs]-|sk-[A-Za-z0-9_-]{20}"
    r"|sk_(?:live|test)_|rk_(?:live|test)_|AIza|eyJ[A-Za-z0-9_-]{8,}\.|-----BEGIN"
)
KEY_NAMES = frozenset({
    "password", "passwd", "passphrase", "api_key", "apikey", "api-key", "secret", "client_secret",
    "access_token", "refresh_token", "auth_token", "authorization", "private_key", "secret_key",
})  # fmt: skip


class Redactor:
    """Cuts known secrets out of JSON bytes and texts."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self.learn(secrets)

    def learn(self, secrets: Iterable[str]) -> None:
        """Take these as the registered secrets from now on."""
        known = sorted({s for s in secrets if len(s) >= MIN_SECRET}, key=len, reverse=True)
        escaped = {json.dumps(s)[1:-1] for s in known} | set(known)
        registered = [re.escape(secret) for secret in sorted(escaped, key=len)[::-1]]
        parts = [f"(?P<registered>{'|'.join(registered)})"] if known else []
        parts += [f"(?P<{name.replace('-', '_')}>{text})" for name, text in PATTERNS.items()]
        self._text = re.compile("|".join(parts))
        names = "|".join(sorted(KEY_NAMES))
        suspects = "|".join([*registered, BEGINNINGS, rf'"(?i:{names})":'])
        self._suspect = re.compile(suspects.encode())

    def text(self, text: str) -> str:
        """Return text with every secret replaced by a mark that names its kind."""
        return self._text.sub(_mark, text)

    def json(self, data: bytes) -> bytes:
        """Return canonical JSON bytes with every secret in them replaced."""
        if self._suspect.search(data) is None:
            return data
        value = plain(data)
        clean = self._value(value)
        return data if clean == value else canonical(clean)

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
        return value

    def _field(self, key: str, value: Any) -> Any:
        if key.lower() in KEY_NAMES and isinstance(value, str) and value:
            return value if value.startswith("[redacted:") else MARK.format(key.lower())
        return self._value(value)


def _mark(match: re.Match[str]) -> str:
    return MARK.format((match.lastgroup or "secret").replace("_", "-"))
