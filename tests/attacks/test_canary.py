"""Canaries: secrets that are said everywhere, looked for in every byte that was written."""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest

APP = Path(__file__).parent / "canary_app.py"
FROM_ENV = 'cAnary+9f/4e"71\\d2é~b8'  # characters that JSON, URLs and base64 write otherwise
FROM_FILE = "file-canary-5521-qwertz"
ENDINGS = (
    "done: dict E_ACTION_FAILED E_ACTION E_ACTION str E_ARGS_SECRET E_ARGS_SCHEMA "
    "E_SECRET_LITERAL E_ARGS_EXTRA E_ARGS_SECRET ChatResponse E_PROVIDER ChatResponse"
)
PEM_LINE = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcw"


class Traces:
    """What the process left: its output, and the bytes of every file of its store."""

    def __init__(self, folder: Path) -> None:
        secret = folder / "secret.txt"
        secret.write_text(f"{FROM_FILE}\n{PEM_LINE}\n", encoding="utf-8")
        store = folder / "store"
        store.mkdir(mode=0o700)
        done = subprocess.run(
            [sys.executable, str(APP), f"sqlite:///{store}/runs.db"],
            capture_output=True,
            timeout=120,
            check=False,
            cwd=store,
            env={
                **os.environ,
                "CANARY_ENV": FROM_ENV,
                "CANARY_FILE": str(secret),
                "PYTHONIOENCODING": "utf-8",
            },
        )
        self.out, self.err, self.code = done.stdout, done.stderr, done.returncode
        self.files = {path.name: path.read_bytes() for path in store.iterdir() if path.is_file()}

    def everything(self) -> Iterator[tuple[str, bytes]]:
        """Yield each thing that was written, by name."""
        yield "standard output", self.out
        yield "standard error", self.err
        yield from self.files.items()


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> Traces:
    """What one process left behind."""
    return Traces(tmp_path_factory.mktemp("canary"))


def needles(value: str) -> dict[str, bytes]:
    """Return what must not be found: the value in each spelling, made without Gatebook's help."""
    data = value.encode()
    texts = {
        "plain": value,
        "json": json.dumps(value)[1:-1],
        "json, not escaped": json.dumps(value, ensure_ascii=False)[1:-1],
        "json in json": json.dumps(json.dumps(value))[1:-1].strip('\\"'),
        "url": quote(value, safe=""),
        "url path": quote(value),
        "url form": quote_plus(value),
        "hex": data.hex(),
        "repr": repr(value)[1:-1],
    }
    found = {name: text.encode() for name, text in texts.items()}
    for lead in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            whole = encode(b"\0" * lead + data)
            found[f"{encode.__name__} {lead}"] = whole[4 if lead else 0 : len(whole) - 4]
    return found


def test_the_process_said_it_every_way_and_died(traces: Traces) -> None:
    """A canary that never sang proves nothing."""
    out = traces.out.decode()

    assert traces.code == 9, traces.err.decode()[-3000:]
    assert "END" in out
    assert ENDINGS in out
    assert out.count("[E_NAME_SECRET]") == 2
    for said in (b"using [redacted", b"it failed", b"ValueError: [redacted"):
        assert said in traces.err, said


def test_the_log_of_the_store_and_its_pieces_were_there_to_be_searched(traces: Traces) -> None:
    """The write-ahead log holds what a checkpoint has not yet moved; pieces are stored apart."""
    together = b"".join(traces.files.values())

    assert {"runs.db", "runs.db-wal"} <= set(traces.files)
    assert b"the key is [redacted:registered]" in together
    assert together.count(b"[redacted:registered]") > 50


@pytest.mark.parametrize("value", [FROM_ENV, FROM_FILE, PEM_LINE], ids=["env", "file", "line"])
def test_no_canary_is_found_in_any_byte(traces: Traces, value: str) -> None:
    """Database, log, pieces, locks, standard output and error; in every spelling."""
    found = [
        f"{spelling} in {name}: ...{data[max(0, at - 60) : at + 60]!r}"
        for name, data in traces.everything()
        for spelling, needle in needles(value).items()
        if (at := data.find(needle)) >= 0
    ]

    assert found == []


def test_half_a_canary_is_not_found_either(traces: Traces) -> None:
    """Messages are cut, streams come in pieces, lines are broken."""
    half = FROM_ENV[: len(FROM_ENV) // 2 + 1].encode()
    found = [name for name, data in traces.everything() if half in data]

    assert found == []
