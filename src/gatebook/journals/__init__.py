"""Where events live, and how a store is named."""

from typing import TYPE_CHECKING, Any

from gatebook.errors import ConfigError
from gatebook.ports import Journal

if TYPE_CHECKING:
    from gatebook.journals.memory import MemoryJournal
    from gatebook.journals.sqlite import SqliteJournal

__all__ = ["MemoryJournal", "SqliteJournal", "open_journal"]


def open_journal(url: str) -> Journal:
    """Return the journal a location names, not yet opened.

    A location is `sqlite:///relative.db`, `sqlite:////absolute.db`, a plain path that ends in
    `.db`, or `:memory:`.

    Raises:
        ConfigError: E_STORE_URL for anything else.
    """
    from gatebook.journals.memory import MemoryJournal

    if not isinstance(url, str):
        raise ConfigError("E_STORE_URL", value=url)
    if url in (":memory:", "memory:"):
        return MemoryJournal()
    path = url.removeprefix("sqlite:///")
    if "\0" in path or not path or (path == url and (":" in url or not url.endswith(".db"))):
        raise ConfigError("E_STORE_URL", value=url)
    from gatebook.journals.sqlite import SqliteJournal

    return SqliteJournal(path)


def __getattr__(name: str) -> Any:
    """Import a journal when it is first asked for: reading a memory journal needs no SQLite."""
    if name == "MemoryJournal":
        from gatebook.journals.memory import MemoryJournal

        return MemoryJournal
    if name == "SqliteJournal":
        from gatebook.journals.sqlite import SqliteJournal

        return SqliteJournal
    raise AttributeError(name)
