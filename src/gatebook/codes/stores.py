"""The texts of errors about journals, stores and the edge; see `gatebook.codes`."""

TEXTS: dict[str, tuple[str, str]] = {
    # journal and store
    "E_CONFLICT": (
        "run {run} is at seq {seq}, the append expected {expected}",
        "fold the new events and decide again",
    ),
    "E_FENCED": (
        "run {run} is owned under epoch {current}, the append carried {epoch}",
        "stop driving the run: another worker has it",
    ),
    "E_COMMIT_UNKNOWN": (
        "a commit failed and may still be durable ({detail})",
        "read the run again before deciding",
    ),
    "E_EVENT_EXTERNAL": (
        "an event {kind} can only be appended by the worker that owns the run",
        "claim the run first",
    ),
    "E_JOURNAL_GAP": ("run {run} has a gap at seq {seq}", "restore the store from a backup"),
    "E_JOURNAL_DUPLICATE": ("run {run} has seq {seq} twice", "restore the store from a backup"),
    "E_JOURNAL_CORRUPT": (
        "run {run} was changed at seq {seq}: hash is {got}, should be {want}",
        "restore the store from a backup",
    ),
    "E_JOURNAL_TRUNCATED": (
        "run {run} ends at seq {got}, its anchor says {want}",
        "restore the store from a backup",
    ),
    "E_BLOB_MISSING": ("run {run} refers to body {digest} which is gone", "restore a backup"),
    "E_EVENT_UNKNOWN": (
        "run {run} has an event {kind} version {version} that this Gatebook does not know",
        "upgrade Gatebook",
    ),
    "E_EVENT_INVALID": (
        "run {run} has an unreadable event at seq {seq}: {detail}",
        "upgrade Gatebook, or restore the store from a backup",
    ),
    "E_TRANSITION": ("an event {kind} cannot follow while run {run} is {status}", "report this"),
    "E_INVARIANT": ("an invariant does not hold in run {run}: {detail}", "report this"),
    "E_SCHEMA_NEWER": (
        "the store {store} has schema {got}, this Gatebook knows {want}",
        "upgrade Gatebook",
    ),
    "E_SCHEMA_OLD": (
        "the store {store} has schema {got}, this Gatebook needs {want}",
        "start a new store: there is no migration from that version",
    ),
    "E_STORE_URL": (
        "store {value} is not a known location",
        "write sqlite:///path/to/file, or a path that ends in .db",
    ),
    "E_STORE_FORMAT": ("{store} is not a Gatebook store: {detail}", "give another path"),
    "E_STORE_READONLY": ("the store {store} cannot be written", "check its permissions"),
    "E_STORE_MISSING": ("there is no store at {store}", "check the path, or run something first"),
    "E_STORE_MOVED": (
        "the store {store} was moved, deleted or replaced while it was open; nothing was written",
        "put it back, or restart this process",
    ),
    "E_STORE_FULL": (
        "the disk of {store} is full; nothing was written",
        "free space, then resume the run",
    ),
    "E_STORE_IO": ("the store {store} failed: {detail}", "check the disk, then resume the run"),
    "E_STORE_CORRUPT": ("the store {store} is damaged: {detail}", "restore it from a backup"),
    "E_STORE_INCOMPLETE": (
        "the store {store} does not hold what it was given: {detail}",
        "restore it from a backup",
    ),
    "E_STORE_STOPPED": (
        "the store {store} stopped writing after a commit that may or may not hold ({detail})",
        "check the disk, then restart this process",
    ),
    "E_PIECE_INVALID": (
        "a piece of an answer in progress does not read: {detail}",
        "read the run without it: the whole answer is in the journal once it is there",
    ),
    "E_HEAD_INVALID": (
        "the row of run {run} does not hold: {detail}",
        "upgrade Gatebook, or restore the store from a backup",
    ),
    "E_LEDGER_INVALID": (
        "the balance of ledger {ledger} cannot be read: {detail}",
        "restore the store from a backup",
    ),
    "E_STORE_BUSY": (
        "the store {store} was locked for {limit} s by {holder}",
        "stop the process that holds it",
    ),
    "E_STORE_NETFS": (
        "{store} lies on the network filesystem {detail}, where SQLite's WAL is not safe",
        "use a local disk",
    ),
    "E_STORE_PERMS": (
        "{store} can be written by others (mode {detail})",
        "run: {command}",
    ),
    "E_STORE_FORKED": (
        "the store {store} was opened before fork() and is used after it",
        "open it again in the child process",
    ),
    "E_STORE_CLOSED": ("the store {store} is closed", "open it again"),
    "E_SQLITE_WAL_RESET": (
        "SQLite {got} has the WAL-reset corruption bug",
        "install apsw 3.51.3 or newer",
    ),
    "E_OWNER_DUPLICATE": ("two workers use the owner id {owner}", "let Gatebook choose owner ids"),
    # the edge
    "E_USAGE": ("the command line cannot be understood: {detail}", "see {command}"),
    "E_STDOUT": (
        "standard output cannot be written: {detail}",
        "send it somewhere else, such as > file",
    ),
    "E_APP": ("cannot load {value}: {detail}", "{fix}"),
    "E_APP_MISSING": (
        "no app was named, and gatebook run has started nothing in this store",
        "name it: --app module:runtime, or app = in gatebook.toml",
    ),
    "E_CONFIG": ("setting {name} in {path} is not allowed: {detail}", "{fix}"),
    "E_CONTENT": ("the input is empty", "pass the text or JSON the program takes"),
    "E_RUNTIME_CLOSED": ("the runtime is closed", "use it inside `async with Runtime(...)`"),
    "E_RUNTIME_LOOP": (
        "a run was to be started from another event loop than the one the runtime was opened in",
        "start it there: asyncio.run_coroutine_threadsafe(runtime.start(...), loop)",
    ),
    "E_RUNTIME_OPEN": ("this {detail} is open already", "close it first, or make another"),
    "E_RUNTIME_STOPPED": (
        "the runtime drives nothing any more: {detail} ended it",
        "report what the log says of it, and restart this process",
    ),
}
