"""Cassettes hold no secret, wherever one comes from."""

from pathlib import Path

import pytest
from tests.providers.calls import CALL, asking
from tests.testing.tapes import KEY, SECRET, answered, record, record_served, stored

from gatebook.testing.cassette import Cassette
from gatebook.testing.fault_server import answer, text_stream


def test_a_request_is_stored_without_secrets(path: Path) -> None:
    """Cassettes are committed, and read by everybody."""
    record(path, asking(f"my key is {KEY}, my word {SECRET}"), secrets=[SECRET])

    assert KEY not in path.read_text()
    assert SECRET not in path.read_text()


def test_a_request_with_a_secret_is_found_again(path: Path) -> None:
    """The key of whoever replays is another one than that of whoever recorded."""
    record(path, asking(f"my key is {KEY}"))

    replayed = answered(Cassette(path), asking(f"my key is {KEY}x"))

    assert replayed.text == "you said my key is [redacted:api-key]"


def test_a_secret_that_comes_in_pieces_is_not_stored(path: Path) -> None:
    """A model that repeats a key does so token by token."""
    record_served(path, text_stream(f"it is {KEY[:9]}", KEY[9:20], f"{KEY[20:]} yes"))

    assert answered(Cassette(path), asking()).text == "it is [redacted:api-key] yes"
    assert not any(KEY[n : n + 9] in path.read_text() for n in range(len(KEY) - 9))


def test_an_error_is_stored_without_secrets(path: Path) -> None:
    """Servers repeat the key they refuse."""
    record_served(path, answer(401, {"error": {"message": f"bad key {KEY}"}}), key=KEY)

    assert stored(path)[0]["error"]["status"] == 401
    assert KEY not in path.read_text()


def test_a_variable_named_like_a_secret_is_one(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys of services we do not know have no format we could find them by."""
    monkeypatch.setenv("WEATHER_API_KEY", SECRET)

    record(path, asking(SECRET))

    assert SECRET not in path.read_text()


def test_an_idempotency_key_is_not_stored(path: Path) -> None:
    """It is another one in every run."""
    record(path, asking())

    assert CALL.idempotency_key not in path.read_text()
