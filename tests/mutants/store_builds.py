"""The broken builds of stores: whose append it is, what news does, whose file; see `builds`."""

from tests.mutants.builds import Build

STORE_BUILDS = (
    # An append whose answer was lost is known by its id.
    Build(
        "an append of one's own is another's",
        "journals/sqlite_members.py",
        "        if own:\n            self.answer = Appended(",
        "        if False:\n            self.answer = Appended(",
        ("tests/journals/test_sqlite.py",),
    ),
    Build(
        "an append of another's is one's own",
        "journals/sqlite_members.py",
        "if event.append_id == self.batch.append_id)",
        "if event.append_id)",
        ("tests/journals/test_sqlite.py",),
    ),
    Build(
        "an append of one's own is another's in memory",
        "journals/memory.py",
        "if event.append_id == batch.append_id)",
        "if False)",
        ("tests/journals/test_memory.py",),
    ),
    # Every append from outside makes a run due.
    Build(
        "news for a parked run does not make it due",
        "journals/entry.py",
        '            self.wake_at, self.parked_reason = head.time, ""\n',
        '            self.parked_reason = ""\n',
        ("tests/journals/test_memory.py",),
    ),
    # A file of somebody else's is left as it is.
    Build(
        "another program's database is switched to WAL",
        "journals/sqlite_files.py",
        "            _schema(connection, self.path)  # before",
        "            #",
        ("tests/journals/test_sqlite_files.py",),
    ),
)
