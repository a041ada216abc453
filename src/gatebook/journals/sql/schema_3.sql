-- What all runs of a tenant share: key is "tenant", or "day:2026-11-21" for one day. balance is the
-- kernel's Balance as JSON: what is reserved and what is spent, changed by the appends that do it.
CREATE TABLE ledgers (
    tenant  TEXT NOT NULL,
    key     TEXT NOT NULL,
    balance TEXT NOT NULL,
    PRIMARY KEY (tenant, key)
) STRICT, WITHOUT ROWID;
