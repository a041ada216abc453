-- Schema 1 of a Gatebook store on SQLite; each schema_N.sql adds to the ones before it.
-- Ids are integers, times are microseconds UTC.
-- Order is by seq (in a run) and by position (in the store), never by time.

CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- One row per run: what the next append is checked against, and what lists and workers ask for.
-- head is the kernel's Head as JSON; (seq, head_hash) is the anchor that shows a cut tail.
CREATE TABLE runs (
    id            INTEGER PRIMARY KEY,
    tenant        TEXT    NOT NULL,
    run_id        TEXT    NOT NULL,
    program       TEXT    NOT NULL,
    kind          TEXT    NOT NULL,
    definition    TEXT    NOT NULL,
    input_hash    TEXT    NOT NULL,
    status        TEXT    NOT NULL,
    seq           INTEGER NOT NULL,
    head_hash     BLOB    NOT NULL,
    epoch         INTEGER NOT NULL,
    head          BLOB    NOT NULL,
    owner         TEXT    NOT NULL,
    lease_until   INTEGER NOT NULL,
    wake_at       INTEGER,
    waiting_on    TEXT    NOT NULL,
    parked_reason TEXT    NOT NULL,
    cancel_seq    INTEGER,
    labels        TEXT    NOT NULL,
    created       INTEGER NOT NULL,
    updated       INTEGER NOT NULL,
    UNIQUE (tenant, run_id)
) STRICT;

CREATE INDEX runs_due  ON runs (wake_at) WHERE wake_at IS NOT NULL;
CREATE INDEX runs_held ON runs (owner)   WHERE owner <> '';

-- AUTOINCREMENT: a position is never handed out twice, not even after pruning, so a follower
-- cannot skip. The body is the JSON that was hashed; kind, version and time are read out of it.
-- epoch 0 marks what came from outside a claim. An event's previous hash is that of seq - 1.
CREATE TABLE events (
    position  INTEGER PRIMARY KEY AUTOINCREMENT,
    run       INTEGER NOT NULL,
    seq       INTEGER NOT NULL,
    epoch     INTEGER NOT NULL,
    append_id BLOB    NOT NULL,
    hash      BLOB    NOT NULL,
    body      BLOB    NOT NULL,
    kind      TEXT    AS (CAST(body AS TEXT) ->> '$.kind'),
    version   INTEGER AS (CAST(body AS TEXT) ->> '$.v'),
    time      INTEGER AS (CAST(body AS TEXT) ->> '$.time'),
    UNIQUE (run, seq)
) STRICT;

-- Bodies too large for their row, once per tenant and digest, and who refers to them.
CREATE TABLE blobs (
    tenant TEXT NOT NULL,
    digest TEXT NOT NULL,
    body   BLOB NOT NULL,
    PRIMARY KEY (tenant, digest)
) STRICT;

CREATE TABLE blob_refs (
    run    INTEGER NOT NULL,
    seq    INTEGER NOT NULL,
    tenant TEXT    NOT NULL,
    digest TEXT    NOT NULL,
    PRIMARY KEY (run, seq)
) STRICT, WITHOUT ROWID;
