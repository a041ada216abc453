"""What `http` offers, what it says of its tools, and what it refuses to be made with."""

import json
from typing import Any

import pytest

from gatebook.errors import ConfigError
from gatebook.tools import http


def test_reading_is_what_is_offered_unasked() -> None:
    """A tool that is there is used."""
    (get,) = http(["api.example.com"])

    assert (get.name, get.spec.effect) == ("http.get", "read")


def test_sending_twice_is_taken_to_do_harm() -> None:
    """Nobody knows what a server does with a second POST."""
    _, send = http(["api.example.com"], methods=["GET", "POST", "DELETE"])

    assert (send.name, send.spec.effect) == ("http.send", "at_most_once")
    assert json.loads(bytes(send.spec.schema))["properties"]["method"]["enum"] == ["POST", "DELETE"]


def test_a_key_header_makes_sending_repeatable() -> None:
    """Whoever names the header says that the server keeps the promise behind it."""
    (send,) = http(["api.example.com"], methods=["POST"], key_header="Idempotency-Key")

    assert send.spec.effect == "idempotent"


def test_what_comes_in_is_untrusted_and_an_address_carries_out() -> None:
    """A page steers the model; a query can carry a secret."""
    (get,) = http(["api.example.com"], prefix="web")

    assert (get.spec.returns, get.spec.sends, get.name) == (("untrusted",), True, "web.get")


@pytest.mark.parametrize(
    "options",
    [
        {"methods": []}, {"methods": "GET"}, {"methods": ["CONNECT"]}, {"headers": "accept"},
        {"headers": ["Host"]}, {"headers": ["content-length"]}, {"headers": ["a b"]},
        {"headers": ["x-forwarded-for"]}, {"max_bytes": 0}, {"max_bytes": 10**8},
        {"headers_for": {"other.example": {}}}, {"headers_for": {"api.example.com:1": {}}},
        {"headers_for": {"api.example.com": {"Transfer-Encoding": "x"}}},
        {"methods": ["POST"], "key_header": "host"}, {"timeout": -1}, {"follow": True},
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(options: Any) -> None:
    """A misspelt limit would be none."""
    with pytest.raises(ConfigError) as caught:
        http(["api.example.com"], **options)

    assert caught.value.code == "E_TOOL_DECLARATION"
