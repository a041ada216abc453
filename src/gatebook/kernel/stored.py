"""Events as they are stored: bytes that are written once, hashed as they are, and read back.

Stored bytes are JSON: the event's fields, then `v` (its version), `time` (microseconds UTC, the
store's stamp) and `epoch`. An unknown kind, field or newer version stops the reader; nothing is
guessed.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec

from gatebook.errors import JournalCorrupt
from gatebook.kernel.codec import digest
from gatebook.kernel.events import KINDS, AnyEvent

VERSION = 1  # every kind is at its first version
_STAMP = b',"v":%d,"time":%%d,"epoch":%%d}' % VERSION

_encoder = msgspec.json.Encoder(order="deterministic")
_decoder: msgspec.json.Decoder[AnyEvent] = msgspec.json.Decoder(AnyEvent)

# What a decoder raises for bytes that somebody changed; the last for brackets without end.
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
GENESIS = bytes(32)  # the hash before the first event
_SHA256 = hashlib.sha256()  # copied: a new one costs half as much again


def chain(previous: bytes, seq: int, body: bytes) -> bytes:
    """Return an event's hash: sha256 over the previous hash, the seq and the stored bytes."""
    digest = _SHA256.copy()
    digest.update(b"%b%d:%b" % (previous, seq, body))
    return digest.digest()


def stamp(time: int, epoch: int) -> bytes:
    """Return what ends the stored bytes of all events of one append: version, time and epoch."""
    return _STAMP % (time, epoch)


def written(event: AnyEvent, end: bytes) -> bytes:
    """Return the bytes of an event that are stored and hashed; `end` is its append's stamp."""
    return _encoder.encode(event)[:-1] + end


def decode(body: bytes, *, run: str, seq: int) -> AnyEvent:
    """Return the event of stored bytes.

    Raises:
        JournalCorrupt: E_EVENT_UNKNOWN for a kind or version from a newer Gatebook,
            E_EVENT_INVALID for anything else that does not read.
    """
    try:
        return _decoder.decode(body)
    except UNREADABLE as exc:
        raise _unreadable(body, run=run, seq=seq, reason=str(exc)) from exc


def decode_all(bodies: Sequence[bytes], *, run: str, after: int) -> list[AnyEvent]:
    """Return the events of consecutive stored bytes, which follow seq `after`; see `decode`."""
    try:
        return list(map(_decoder.decode, bodies))
    except UNREADABLE:  # say which
        return [decode(body, run=run, seq=seq) for seq, body in enumerate(bodies, after + 1)]


class Envelope(msgspec.Struct, frozen=True):
    """What the chain keeps of an event whose body is detached into the blob table."""

    kind: str
    blob: str
    salt: str
    size: int
    v: int
    time: int
    epoch: int


def detach(body: bytes, *, salt: bytes) -> tuple[bytes, str]:
    """Return (envelope bytes, blob digest) for a stamped body that is stored apart.

    The envelope holds a salted digest of the body, so it proves the body while it is there and
    tells nothing about it when it has been erased.
    """
    facts = _envelope_of.decode(body)
    blob = digest(salt, body)
    envelope = Envelope(facts.kind, blob, salt.hex(), len(body), facts.v, facts.time, facts.epoch)
    return _encoder.encode(envelope), blob


def attach(envelope: bytes, body: bytes | None, *, run: str, seq: int) -> bytes:
    """Return a detached body after checking it against its envelope.

    Raises:
        JournalCorrupt: E_BLOB_MISSING without a body, E_JOURNAL_CORRUPT when it was changed,
            E_EVENT_INVALID when the event has none.
    """
    try:
        facts = msgspec.json.decode(envelope, type=Envelope)
        salt = bytes.fromhex(facts.salt)
    except (*UNREADABLE, ValueError) as exc:
        detail = f"a body is kept apart for it, and {exc}"
        raise JournalCorrupt("E_EVENT_INVALID", run=run, seq=seq, detail=detail) from exc
    if body is None:
        raise JournalCorrupt("E_BLOB_MISSING", run=run, digest=facts.blob)
    found = digest(salt, body)
    if found != facts.blob:
        raise JournalCorrupt("E_JOURNAL_CORRUPT", run=run, seq=seq, got=found, want=facts.blob)
    return body


class _Stamp(msgspec.Struct):
    kind: str
    v: int
    time: int
    epoch: int


_envelope_of = msgspec.json.Decoder(_Stamp)


def _unreadable(body: bytes, *, run: str, seq: int, reason: str) -> JournalCorrupt:
    try:
        envelope: Any = msgspec.json.decode(body)
        kind, version = envelope["kind"], envelope["v"]
        unknown = kind not in KINDS or version != VERSION
    except (*UNREADABLE, KeyError, TypeError):
        return JournalCorrupt("E_EVENT_INVALID", run=run, seq=seq, detail=reason)
    if unknown:
        return JournalCorrupt("E_EVENT_UNKNOWN", run=run, kind=kind, version=version)
    return JournalCorrupt("E_EVENT_INVALID", run=run, seq=seq, detail=reason)
