"""A store is opened only where it is safe, and only when it is one."""

import asyncio
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Any

import apsw
import pytest

from gatebook.errors import ConfigError, GatebookError, JournalCorrupt, StoreError
from gatebook.journals import MemoryJournal, open_journal
from gatebook.journals.sqlite import SqliteJournal
from gatebook.journals.sqlite_files import APPLICATION_ID, SCHEMA, check_sqlite, network_filesystem
from gatebook.testing.journal_facts.kit import begin, claimed

MOUNTS = """\
/dev/vda / ext4 rw 0 0
server:/team /team nfs4 rw 0 0
/dev/vdb /team/local ext4 rw 0 0
//server/c /mnt/with\\040space cifs rw 0 0
host:/ /mnt/ssh fuse.sshfs rw 0 0
"""


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that an ordinary user can reach, when the tests are run by root."""
    with tempfile.TemporaryDirectory(prefix="gatebook-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def opened(path: Path) -> None:
    """Open a store and close it again."""

    async def scenario() -> None:
        journal = SqliteJournal(path)
        await journal.open()
        await journal.close()

    asyncio.run(scenario())


def refusal(path: Path) -> GatebookError:
    with pytest.raises(GatebookError) as caught:
        opened(path)
    return caught.value


def rows(store: Path, query: str) -> list[tuple[Any, ...]]:
    connection = apsw.Connection(str(store))
    found = list(connection.execute(query))
    connection.close()
    return found


def tables(store: Path) -> list[tuple[Any, ...]]:
    return rows(store, "SELECT name, sql FROM sqlite_schema ORDER BY name")


def edit(store: Path, statement: str) -> None:
    connection = apsw.Connection(str(store))
    connection.execute(statement)
    connection.close()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_store_and_its_folders_are_private(tmp_path: Path) -> None:
    """A journal holds what people typed and what tools answered."""
    store = tmp_path / "new" / "deep" / "journal.db"

    async def scenario() -> dict[str, int]:
        journal = SqliteJournal(store)
        await journal.open()
        await claimed(journal, await begin(journal))
        modes = {path.name: mode(path) for path in [store.parent, *store.parent.rglob("*")]}
        await journal.close()
        return modes

    modes = asyncio.run(scenario())

    assert {modes.pop("deep"), modes.pop("journal.db.locks")} == {0o700}
    assert len(modes) == 4
    assert set(modes.values()) == {0o600}


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    """A wrong path must not cost the file that lies there."""
    store = tmp_path / "notes.db"
    store.write_text("my notes, not a database, and rather longer than a header of SQLite is")
    before = store.read_bytes()

    assert refusal(store).code == "E_STORE_FORMAT"
    assert store.read_bytes() == before


def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    """Nothing of ours may appear in it, nor may it be switched to WAL."""
    store = tmp_path / "other.db"
    edit(store, "CREATE TABLE theirs (a)")
    before = store.read_bytes()

    assert refusal(store).code == "E_STORE_FORMAT"
    assert store.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["other.db"]


def test_a_folder_is_refused(tmp_path: Path) -> None:
    """The text should say what is wrong with the path."""
    assert refusal(tmp_path).code == "E_STORE_FORMAT"


@pytest.mark.parametrize(("schema", "code"), [(SCHEMA + 1, "E_SCHEMA_NEWER"), (0, "E_SCHEMA_OLD")])
def test_another_schema_is_refused(tmp_path: Path, schema: int, code: str) -> None:
    """Reading with the wrong schema would be guessing."""
    store = tmp_path / "journal.db"
    opened(store)
    edit(store, f"UPDATE meta SET value = '{schema}' WHERE name = 'schema'")

    error = refusal(store)

    assert (error.code, error.fields["got"]) == (code, schema)


def test_a_schema_that_is_no_number_is_refused(tmp_path: Path) -> None:
    """Nobody can say what is in such a file."""
    store = tmp_path / "journal.db"
    opened(store)
    edit(store, "UPDATE meta SET value = 'five'")

    error = refusal(store)

    assert (error.code, "'five'" in str(error)) == ("E_STORE_FORMAT", True)


def test_a_store_of_an_earlier_schema_is_brought_up(tmp_path: Path) -> None:
    """Upgrading Gatebook must not cost the runs there are."""
    old, new = tmp_path / "old.db", tmp_path / "new.db"
    opened(new)
    first = files("gatebook.journals").joinpath("sql/schema_1.sql").read_text()
    edit(old, f"{first}; INSERT INTO meta VALUES ('schema', '1'), ('kept', 'yes');"
              f"PRAGMA application_id = {APPLICATION_ID}")  # fmt: skip

    opened(old)

    assert tables(old) == tables(new)
    assert rows(old, "SELECT value FROM meta WHERE name = 'kept'") == [("yes",)]


def test_events_are_read_with_sql(tmp_path: Path) -> None:
    """Whoever has nothing but SQLite must be able to see what a run did."""
    store = tmp_path / "journal.db"

    async def scenario() -> None:
        journal = SqliteJournal(store)
        await journal.open()
        await begin(journal, "r")
        await journal.close()

    asyncio.run(scenario())

    found = rows(store, "SELECT tenant, run_id, seq, epoch, kind, version, time > 0 FROM journal")
    assert found == [("default", "r", 1, 0, "run_started", 1, 1)]


def test_a_store_others_can_write_is_refused(tmp_path: Path) -> None:
    """Whoever can write the file can write a run's history."""
    store = tmp_path / "journal.db"
    opened(store)
    store.chmod(0o666)

    error = refusal(store)

    assert error.code == "E_STORE_PERMS"
    assert f"chmod o-w {store}" in str(error)


def test_a_folder_others_can_write_is_refused(tmp_path: Path) -> None:
    """Whoever can write the folder can put another file in the store's place."""
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)

    assert refusal(folder / "journal.db").code == "E_STORE_PERMS"


def test_a_shared_folder_with_the_sticky_bit_is_allowed(tmp_path: Path) -> None:
    """In /tmp everybody can write, and nobody can replace another's file."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    folder.chmod(0o1777)

    opened(folder / "journal.db")

    assert mode(folder / "journal.db") == 0o600


@pytest.mark.parametrize("locked", ["file", "folder", "parent"])
def test_a_place_that_cannot_be_written_is_refused(locked: str, public: Path) -> None:
    """SQLite would find out at the first append, which is too late."""
    folder = public / "folder"
    folder.mkdir()
    store = folder / ("deeper/journal.db" if locked == "parent" else "journal.db")
    if locked == "file":
        opened(store)
        store.chmod(0o400)
    else:
        folder.chmod(0o500)

    code = (
        "import os, sys, asyncio\n"
        "from gatebook.journals.sqlite import SqliteJournal\n"
        "from gatebook.errors import GatebookError\n"
        "if os.geteuid() == 0:\n"  # root may write anywhere
        "    os.chown(sys.argv[2], 65534, 65534)\n"
        "    os.path.exists(sys.argv[1]) and os.chown(sys.argv[1], 65534, 65534)\n"
        "    os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "try:\n"
        "    asyncio.run(SqliteJournal(sys.argv[1]).open())\n"
        "except GatebookError as exc:\n"
        "    print(exc.code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, store, folder], capture_output=True, text=True, check=False
    )

    assert done.stdout.strip() == "E_STORE_READONLY", done.stderr


@pytest.mark.parametrize(
    ("place", "found"),
    [
        ("/srv/x", None),
        ("/team/me", "nfs4"),
        ("/team/local/me", None),
        ("/teams/me", None),
        ("/mnt/with space/a", "cifs"),
        ("/mnt/ssh", "fuse.sshfs"),
    ],
)
def test_network_filesystems_are_known_by_their_mount(place: str, found: str | None) -> None:
    """WAL needs memory shared between its users, which no network offers."""
    assert network_filesystem(Path(place), MOUNTS) == found


def test_a_sqlite_with_the_reset_bug_is_refused() -> None:
    """Two connections that reset the log at once corrupt the store; sqlite.org, 3.51.3."""
    with pytest.raises(ConfigError) as caught:
        check_sqlite("3.51.2")
    check_sqlite("3.51.3")
    check_sqlite("3.100.0")

    assert caught.value.code == "E_SQLITE_WAL_RESET"


def test_the_store_is_opened_for_full_durability(tmp_path: Path) -> None:
    """With synchronous=NORMAL a power loss takes acknowledged events away."""
    settings: list[object] = []

    async def scenario() -> None:
        journal = SqliteJournal(tmp_path / "journal.db")
        await journal.open()
        await begin(journal)
        await journal.close()

    def watch(connection: apsw.Connection) -> None:
        def profile(statement: str, _: int) -> None:
            if "COMMIT" in statement:
                settings.append(connection.execute("PRAGMA synchronous").get)

        connection.set_profile(profile)

    apsw.connection_hooks.append(watch)
    try:
        asyncio.run(scenario())
    finally:
        apsw.connection_hooks.remove(watch)

    assert settings
    assert set(settings) == {2}


def test_a_damaged_store_is_not_called_busy_or_full(tmp_path: Path) -> None:
    """The reader has to look for a backup, not for space."""
    store = tmp_path / "journal.db"
    opened(store)
    content = store.read_bytes()
    store.write_bytes(content[:100] + b"\xff" * (len(content) - 100))

    error = refusal(store)

    assert isinstance(error, JournalCorrupt)
    assert error.code == "E_STORE_CORRUPT"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, so small that a test can fill it."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k,mode=700", "tmpfs", str(place)]
    if (
        shutil.which("mount") is None
        or subprocess.run(mount, capture_output=True, check=False).returncode
    ):
        pytest.skip("needs the right to mount a file system")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_is_named_where_only_the_index_finds_no_room(small_disk: Path) -> None:
    """SQLite calls it an I/O error when the -shm file finds no room, which says little."""
    store = small_disk / "journal.db"
    opened(store)
    with suppress(OSError), (small_disk / "filler").open("wb", buffering=0) as filler:
        while True:
            filler.write(bytes(1_024))

    error = refusal(store)

    assert error.code == "E_STORE_FULL"


def test_a_closed_store_says_so_before_it_was_opened(tmp_path: Path) -> None:
    """Forgetting to open is the same mistake as using it too late."""

    async def scenario() -> None:
        journal = SqliteJournal(tmp_path / "journal.db")
        with pytest.raises(StoreError) as caught:
            await begin(journal)
        assert caught.value.code == "E_STORE_CLOSED"
        await journal.close()

    asyncio.run(scenario())


def test_a_failed_open_leaves_no_thread_and_may_be_repeated(tmp_path: Path) -> None:
    """Whoever mends the permissions should not have to restart."""
    store = tmp_path / "journal.db"
    opened(store)

    async def scenario() -> None:
        journal = SqliteJournal(store)
        store.chmod(0o666)
        with pytest.raises(ConfigError):
            await journal.open()
        store.chmod(0o600)
        await journal.open()
        await begin(journal)
        await journal.close()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///runs.db", "runs.db"),
        ("sqlite:////var/lib/runs.db", "/var/lib/runs.db"),
        ("sqlite:///runs", "runs"),
        ("deep/runs.db", "deep/runs.db"),
        ("/var/runs.db", "/var/runs.db"),
    ],
)
def test_a_location_names_a_file(url: str, path: str) -> None:
    """Three slashes and a relative path, or four and an absolute one, as elsewhere."""
    assert open_journal(url).url == f"sqlite:///{os.path.realpath(path)}"


@pytest.mark.parametrize("url", [":memory:", "memory:"])
def test_a_location_may_be_this_process(url: str) -> None:
    """Trying something out needs no file."""
    assert isinstance(open_journal(url), MemoryJournal)


@pytest.mark.parametrize(
    "url",
    ["", "sqlite:///", "sqlite://runs.db", "postgres://host/db", "runs", "a\0b.db", "x:y.db", None],
)
def test_any_other_location_is_refused(url: str) -> None:
    """A typing error must not become a file somewhere."""
    with pytest.raises(ConfigError) as caught:
        open_journal(url)

    assert caught.value.code == "E_STORE_URL"


def test_naming_a_memory_journal_loads_no_sqlite() -> None:
    """Start-up time is counted in imports."""
    code = (
        "import sys; from gatebook.journals import open_journal; open_journal(':memory:');"
        "sys.exit('apsw' in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
