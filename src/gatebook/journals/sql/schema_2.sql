-- Parts of model answers that are being written, for readers in other processes: no events, never
-- hashed, gone with the append that ends their attempt. A mark is never handed out twice.
CREATE TABLE pieces (
    mark    INTEGER PRIMARY KEY AUTOINCREMENT,
    run     INTEGER NOT NULL,
    address TEXT    NOT NULL,
    attempt INTEGER NOT NULL,
    first   INTEGER NOT NULL,
    count   INTEGER NOT NULL,
    body    BLOB    NOT NULL,
    UNIQUE (run, address, attempt, first)
) STRICT;
