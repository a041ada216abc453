-- What people read out of an event is a view: SQLite works out even a virtual column at every
-- insert, and parses the body for each.
ALTER TABLE events DROP COLUMN kind;
ALTER TABLE events DROP COLUMN version;
ALTER TABLE events DROP COLUMN time;

CREATE VIEW journal AS
SELECT e.position, r.tenant, r.run_id, e.seq, e.epoch,
  CAST(e.body AS TEXT) ->> '$.kind' AS kind,
  CAST(e.body AS TEXT) ->> '$.v'    AS version,
  CAST(e.body AS TEXT) ->> '$.time' AS time,
  CAST(e.body AS TEXT)              AS body
FROM events AS e JOIN runs AS r ON r.id = e.run;
