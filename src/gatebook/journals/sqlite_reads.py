"""What readers ask of a SQLite store: functions of one connection, each one query or snapshot.

Statements are constants, values are bound. Nothing here writes. All rows are fetched before any
is decoded: a statement that an error leaves open would pin its connection to an old snapshot.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import apsw
import msgspec

from gatebook.errors import JournalCorrupt, RunNotFound
from gatebook.journals.entry import RunEntry
from gatebook.journals.sqlite_locks import Hold
from gatebook.kernel.events import AnyEvent
from gatebook.kernel.head import Head
from gatebook.kernel.spending.ledgers import Balance
from gatebook.kernel.stored import GENESIS, UNREADABLE, attach, chain, decode, decode_all
from gatebook.kernel.verify import verify_chain
from gatebook.ports import Piece, Recorded, RunKey, RunQuery, RunRow, Stretch

_COLUMNS = (
    "id, tenant, run_id, program, kind, definition, input_hash, head, owner, lease_until,"
    " wake_at, waiting_on, parked_reason, labels, created, updated,"
    " status, seq, head_hash, epoch, cancel_seq"
)
_RUN = f"SELECT {_COLUMNS} FROM runs WHERE tenant = ? AND run_id = ?"
_RUNS = f"""
SELECT {_COLUMNS} FROM runs
WHERE tenant = ?1
  AND (?2 = '[]' OR status IN (SELECT value FROM json_each(?2)))
  AND (?3 = '' OR program = ?3)
  AND substr(run_id, 1, length(?4)) = ?4
  AND (?5 IS NULL OR created >= ?5)
  AND NOT EXISTS (
    SELECT 1 FROM json_each(?6) AS wanted WHERE NOT EXISTS (
      SELECT 1 FROM json_each(runs.labels) AS label
      WHERE label.key = wanted.key AND label.value = wanted.value))
ORDER BY id DESC LIMIT ?7
"""
_KEYS = "SELECT run_id FROM runs WHERE tenant = ? ORDER BY id DESC"
_ID = "SELECT id FROM runs WHERE tenant = ?1 AND run_id = ?2"
_APART = 2
# One statement is one snapshot: where the last event must be, events, and what is kept apart. One
# event past the last is looked for: it should not be there.
_PAST = f"""
SELECT 0, seq, head_hash{{none}} FROM runs WHERE tenant = ?1 AND run_id = ?2
UNION ALL
SELECT 1, e.seq, e.body{{more}} FROM runs AS r CROSS JOIN events AS e
WHERE r.tenant = ?1 AND r.run_id = ?2 AND r.seq - ?3 <= ?4
  AND e.run >> 4 = r.id >> 4 AND e.run = r.id AND e.seq > ?3 AND e.seq <= min(?5, r.seq + 1)
UNION ALL
SELECT {_APART}, a.seq, b.body{{none}}
FROM runs AS r CROSS JOIN blob_refs AS a ON a.run = r.id
LEFT JOIN blobs AS b ON b.tenant = a.tenant AND b.digest = a.digest
WHERE r.tenant = ?1 AND r.run_id = ?2 AND r.seq - ?3 <= ?4 AND a.seq > ?3 AND a.seq <= ?5
"""
_EVENTS = _PAST.format(more=", e.position, e.append_id, e.hash", none=", NULL, NULL, NULL")
_STRETCH = _PAST.format(more="", none="")
_RAW = """
SELECT seq, lag(hash, 1, zeroblob(32)) OVER (ORDER BY seq), hash, body
FROM events WHERE run >> 4 = ?1 >> 4 AND run = ?1 ORDER BY seq
"""
_HASH = "SELECT hash FROM events WHERE run >> 4 = ?1 >> 4 AND run = ?1 AND seq = ?2"
_TAIL = """
SELECT r.run_id, e.position, e.seq, e.append_id, e.hash, e.body, ref.seq IS NOT NULL, b.body
FROM events AS e CROSS JOIN runs AS r ON r.id = e.run
LEFT JOIN blob_refs AS ref ON ref.run = e.run AND ref.seq = e.seq
LEFT JOIN blobs AS b ON b.tenant = ref.tenant AND b.digest = ref.digest
WHERE e.position > ? AND r.tenant = ? ORDER BY e.position LIMIT ?
"""
_PIECES = """
SELECT address, attempt, first, count, body, mark FROM pieces
WHERE run = ? AND mark > ? ORDER BY mark
"""
_HELD = """
SELECT id, tenant, run_id, program, owner, epoch, lease_until, updated
FROM runs WHERE owner <> ''
"""
_DUE = """
SELECT wake_at, id, run_id FROM runs
WHERE wake_at <= ?1 AND wake_at IS NOT NULL AND owner = '' AND parked_reason = ''
  AND tenant = ?2 AND program IN (SELECT value FROM json_each(?3))
ORDER BY wake_at, id LIMIT ?4
"""
_TOUCHED = """
SELECT DISTINCT r.tenant, r.run_id FROM events AS e CROSS JOIN runs AS r ON r.id = e.run
WHERE e.position > ? AND e.position <= ? AND e.epoch = 0
"""
_LEDGER = "SELECT balance FROM ledgers WHERE tenant = ? AND key = ?"
_LEDGERS = "SELECT key, balance FROM ledgers WHERE tenant = ? ORDER BY key"
_LAST = "SELECT seq FROM sqlite_sequence WHERE name = 'events'"
_AT = "SELECT append_id FROM events WHERE position = ?"
# One statement is one snapshot.
_WHOLE = f"""
SELECT (SELECT count(*) FROM events), (SELECT max(position) FROM events), ({_LAST}),
  (SELECT count(*) FROM events WHERE run NOT IN (SELECT id FROM runs))
"""

FEW = 16  # events that the loop may read itself
ALL = 2**62

_head = msgspec.json.Decoder(Head)
_balance = msgspec.json.Decoder(Balance)
_labels = msgspec.json.Decoder(dict[str, str])
_encode = msgspec.json.encode


def _all(connection: apsw.Connection, statement: str, values: Any = ()) -> list[Any]:
    return connection.execute(statement, values).fetchall()


def find(connection: apsw.Connection, run: RunKey) -> RunEntry | None:
    """Return a run's entry, None when this tenant has no such run."""
    columns = connection.execute(_RUN, run).get
    return None if columns is None else RunEntry.of(_row(columns[1:]), columns[0])


def row(connection: apsw.Connection, run: RunKey) -> RunRow:
    """Return a run's row."""
    columns = connection.execute(_RUN, run).get
    if columns is None:
        raise RunNotFound("E_RUN_NOT_FOUND", run=run.id)
    return _row(columns[1:])


def _row(columns: Sequence[Any]) -> RunRow:
    (tenant, run_id, program, kind, definition, input_hash, head, owner, lease_until, wake_at,
     waiting_on, parked_reason, labels, created, updated, *shown) = columns  # fmt: skip
    key = RunKey(tenant, run_id)
    try:
        known, tags = _head.decode(head), _labels.decode(labels)
    except UNREADABLE as exc:
        raise JournalCorrupt("E_HEAD_INVALID", run=key.id, detail=str(exc)) from exc
    if [known.status, known.seq, known.hash, known.epoch, known.cancel_seq] != shown:
        detail = "its columns say something else than its head"
        raise JournalCorrupt("E_HEAD_INVALID", run=key.id, detail=detail)
    if known.seq < 1:
        detail = "it has no first event"
        raise JournalCorrupt("E_HEAD_INVALID", run=key.id, detail=detail)
    return RunRow(
        run=key, program=program, program_kind=kind, definition=definition,
        input_hash=input_hash, head=known, owner=owner, lease_until=lease_until,
        wake_at=wake_at, waiting_on=waiting_on, parked_reason=parked_reason, labels=tags,
        created=created, updated=updated,
    )  # fmt: skip


def keys(connection: apsw.Connection, tenant: str) -> list[RunKey]:
    """Return the tenant's runs, newest first, whether or not their rows read."""
    return [RunKey(tenant, run_id) for (run_id,) in _all(connection, _KEYS, (tenant,))]


def runs(connection: apsw.Connection, tenant: str, query: RunQuery) -> list[RunRow]:
    """Return the matching runs, newest first."""
    values = (
        tenant, _text(query.statuses), query.program, query.id_prefix, query.since,
        _text(query.labels), query.limit,
    )  # fmt: skip
    return [_row(columns[1:]) for columns in _all(connection, _RUNS, values)]


def _text(value: object) -> str:
    return _encode(value).decode()


def _past(
    connection: apsw.Connection, statement: str, run: RunKey, after: int, most: int, upto: int
) -> tuple[int, bytes, list[Any], list[Any]]:
    """Return seq and hash of the run's last event by its row, events as rows, bodies kept apart.

    There are no events when more than `most` follow `after`. Their order is checked as they are
    decoded.
    """
    rows = _all(connection, statement, (*run, after, most, upto))
    if not rows:
        raise RunNotFound("E_RUN_NOT_FOUND", run=run.id)
    apart = []
    while rows[-1][0] == _APART:
        apart.append(rows.pop()[1:3])
    _, want, hash, *_ = rows.pop(0)
    return want, hash, rows, apart


def read(
    connection: apsw.Connection, run: RunKey, after: int, limit: int | None, most: int = ALL
) -> list[Recorded] | None:
    """Return a run's events with seq > `after`, None when there are more than `most`.

    A full read must reach the row's anchor.

    Raises:
        RunNotFound: this tenant has no such run.
        JournalCorrupt: a gap, a seq twice, a cut tail, an event that does not read or was changed.
    """
    upto = ALL if limit is None else after + limit
    want, anchor, rows, apart = _past(connection, _EVENTS, run, after, most, upto)
    if want - after > most:
        return None
    found = _decoded(run, after, rows, apart)
    _check_end(run, after, after + len(found), min(want, upto))
    _check_links(run, after, rows, anchor if after + len(rows) == want else None)
    return [
        Recorded(run, seq, position, append_id, hash, event)
        for (_, seq, _, position, append_id, hash), event in zip(rows, found, strict=True)
    ]


def stretch(
    connection: apsw.Connection,
    run: RunKey,
    after: int = 0,
    hash: bytes = GENESIS,
    most: int = ALL,
) -> Stretch | None:
    """Return what `read` returns as a fold takes it: two columns of five, no objects but events.

    Here the stored bytes are chained to the `hash` before them: nobody acts on what was changed.
    """
    want, anchor, rows, apart = _past(connection, _STRETCH, run, after, most, ALL)
    if want - after > most:
        return None
    found = _decoded(run, after, rows, apart)
    _check_end(run, after, after + len(found), want)
    for _, seq, body in rows:
        hash = chain(hash, seq, body)
    if hash != anchor:
        raise _first_changed(connection, run, want, hash, anchor)
    return Stretch(after, found, hash)


def _first_changed(
    connection: apsw.Connection, run: RunKey, last: int, got: bytes, want: bytes
) -> JournalCorrupt:
    """Return the error that names the first changed event, if its own hash does not fit it."""
    try:
        verify_chain(run.id, raw(connection, run), Head(seq=last, hash=want))
    except JournalCorrupt as exc:
        return exc
    return _is_changed(run.id, last, got, want)


def _is_changed(run: str, seq: int, got: bytes, want: bytes) -> JournalCorrupt:
    return JournalCorrupt("E_JOURNAL_CORRUPT", run=run, seq=seq, got=got.hex(), want=want.hex())


def _check_links(run: RunKey, after: int, rows: Sequence[Any], anchor: bytes | None) -> None:
    """Check each event's bytes by its hash and the one before, as far as that was read too."""
    previous = None if after else GENESIS
    for _, seq, body, _, _, hash in rows:
        found = hash if previous is None else chain(previous, seq, body)
        if found != hash:
            raise _is_changed(run.id, seq, found, hash)
        previous = hash
    if rows and anchor is not None and previous != anchor:
        raise _is_changed(run.id, after + len(rows), previous or b"", anchor)


def _check_end(run: RunKey, after: int, last: int, want: int) -> None:
    if last < want or last > max(want, after):
        raise JournalCorrupt("E_JOURNAL_TRUNCATED", run=run.id, got=last, want=str(want))


def _decoded(
    run: RunKey, after: int, rows: Sequence[Any], apart: Iterable[tuple[int, bytes | None]]
) -> list[AnyEvent]:
    """Return the events of rows, whose seqs must follow `after` one by one."""
    for expected, row in enumerate(rows, after + 1):
        seq = row[1]
        if seq != expected:
            code = "E_JOURNAL_GAP" if seq > expected else "E_JOURNAL_DUPLICATE"
            raise JournalCorrupt(code, run=run.id, seq=min(seq, expected))
    bodies = [row[2] for row in rows]
    first = after + 1
    for seq, blob in apart:
        if seq < first + len(bodies):  # else its event is missing, and the end is not reached
            bodies[seq - first] = attach(bodies[seq - first], blob, run=run.id, seq=seq)
    return decode_all(bodies, run=run.id, after=after)


def raw(connection: apsw.Connection, run: RunKey) -> list[tuple[int, bytes, bytes, bytes]]:
    """Return (seq, prev_hash, hash, stored body) of a run's events, unchecked."""
    return _all(connection, _RAW, (_id(connection, run),))


def check_last(connection: apsw.Connection, entry: RunEntry) -> None:
    """Raise JournalCorrupt unless the event that a run's row names as its last one is stored."""
    run, head = entry.run.id, entry.head
    found: bytes | None = connection.execute(_HASH, (entry.id, head.seq)).get
    if found is None:
        raise JournalCorrupt(
            "E_JOURNAL_TRUNCATED", run=run, got=f"before {head.seq}", want=head.seq
        )
    if found != head.hash:
        raise _is_changed(run, head.seq, found, head.hash)


def pieces(connection: apsw.Connection, run: RunKey, after: int) -> list[Piece]:
    """Return the run's pieces of answers in progress, with a mark > `after`."""
    rows = _all(connection, _PIECES, (_id(connection, run), after))
    return [Piece(*columns) for columns in rows]


def _id(connection: apsw.Connection, run: RunKey) -> int:
    id: int | None = connection.execute(_ID, run).get
    if id is None:
        raise RunNotFound("E_RUN_NOT_FOUND", run=run.id)
    return id


def tail(connection: apsw.Connection, tenant: str, after: int, limit: int) -> list[Recorded]:
    """Return events of all the tenant's runs with position > `after`, in order."""
    found = []
    for columns in _all(connection, _TAIL, (after, tenant, limit)):
        run_id, position, seq, append_id, hash, stored, apart, blob = columns
        body = attach(stored, blob, run=run_id, seq=seq) if apart else stored
        event = decode(body, run=run_id, seq=seq)
        found.append(Recorded(RunKey(tenant, run_id), seq, position, append_id, hash, event))
    return found


def ledger(connection: apsw.Connection, tenant: str, key: str) -> Balance | None:
    """Return a ledger's balance, None when nothing has counted against it."""
    found = connection.execute(_LEDGER, (tenant, key)).get
    return None if found is None else _decoded_balance(key, found)


def ledgers(connection: apsw.Connection, tenant: str) -> dict[str, Balance]:
    """Return the tenant's balances by key."""
    rows = _all(connection, _LEDGERS, (tenant,))
    return {key: _decoded_balance(key, found) for key, found in rows}


def _decoded_balance(key: str, found: str) -> Balance:
    try:
        return _balance.decode(found)
    except UNREADABLE as exc:
        raise JournalCorrupt("E_LEDGER_INVALID", ledger=key, detail=str(exc)) from exc


def encoded(balance: Balance) -> str:
    """Return a balance as it is stored."""
    return _text(balance)


def held(connection: apsw.Connection) -> list[tuple[int, RunKey, str, Hold, int]]:
    """Return every run somebody holds: (id, run, program, hold, last change)."""
    return [
        (id, RunKey(tenant, run_id), program, (owner, epoch, until), updated)
        for id, tenant, run_id, program, owner, epoch, until, updated in _all(connection, _HELD)
    ]


def due(
    connection: apsw.Connection, tenant: str, programs: Iterable[str], now: int, limit: int
) -> list[tuple[int, int, RunKey]]:
    """Return (wake_at, id, run) of the runs nobody holds whose time has come."""
    values = (now, tenant, _text(list(programs)), limit)
    return [
        (wake_at, id, RunKey(tenant, run_id))
        for wake_at, id, run_id in _all(connection, _DUE, values)
    ]


def touched(connection: apsw.Connection, after: int, upto: int) -> frozenset[RunKey]:
    """Return the runs that got an event from outside a claim in (`after`, `upto`]."""
    rows = _all(connection, _TOUCHED, (after, upto))
    return frozenset(RunKey(tenant, run_id) for tenant, run_id in rows)


def is_there(connection: apsw.Connection, position: int, append_id: bytes) -> bool:
    """Whether the event at a position is of that append."""
    found = connection.execute(_AT, (position,)).get
    return bool(found == append_id)


def check_whole(connection: apsw.Connection, store: str) -> None:
    """Raise JournalCorrupt unless every event that was ever kept is there, and is of a run."""
    events, highest, last, loose = connection.execute(_WHOLE).get
    if loose:
        detail = f"{loose} of its {events} events belong to no run"
    elif events == (highest or 0) == (last or 0):  # no position is left out, or given twice
        return
    else:
        detail = f"it holds {events} events, up to position {highest}, and has counted {last or 0}"
    raise JournalCorrupt("E_STORE_INCOMPLETE", store=store, detail=detail)


def last_position(connection: apsw.Connection) -> int:
    """Return the last position that was handed out."""
    last = connection.execute(_LAST).get
    return int(last or 0)
