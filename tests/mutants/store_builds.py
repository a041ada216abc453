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
    Build(
        "a file that was taken away is written to",
        "journals/sqlite_scribe.py",
        "        desk.write()\n        self._store.check_same()\n",
        "        desk.write()\n",
        ("tests/journals/test_sqlite_moved.py",),
    ),
    # What is stored is believed by its hashes and nothing else.
    Build(
        "events that were edited are shown",
        "journals/sqlite_reads.py",
        "        if found != hash:\n            raise _is_changed(run.id, seq, found, hash)\n",
        "",
        ("tests/cli/test_verify_all.py",),
    ),
    Build(
        "a run that is gone is not missed",
        "journals/sqlite_reads.py",
        "    if loose:\n",
        "    return\n    if loose:\n",
        ("tests/cli/test_verify_all.py",),
    ),
    Build(
        "a lease that was claimed again is renewed with the newer one",
        "journals/sqlite_members.py",
        "        if lease in renewed:\n",
        "        if lease.run in {each.run for each in renewed}:\n",
        ("tests/journals/test_sqlite.py", "tests/journals/test_alike.py"),
    ),
)
