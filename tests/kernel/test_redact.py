"""Redaction: every kind of secret is found in stored bytes, wherever it stands in them."""

import json

import pytest

from gatebook.kernel.codec import canonical, plain
from gatebook.kernel.redact import KEY_NAMES, PATTERNS, Redactor

SAMPLES = {
    "aws-key": ["AKIA" + "A1" * 8, "ASIA" + "Z9" * 8],
    "github-token": [*(f"gh{c}_" + "a1" * 18 for c in "pousr"), "github_pat_" + "a_1" * 8],
    "slack-token": [f"xox{c}-0123456789" for c in "abeoprs"],
    "api-key": ["sk-" + "a" * 20, "sk-ant-" + "b" * 20, "sk-proj-" + "c" * 20, "sk-or-" + "d" * 20],
    "stripe-key": [f"{c}k_{mode}_" + "0a" * 8 for c in "rs" for mode in ("live", "test")],
    "google-key": ["AIza" + "x" * 35],
    "jwt": ["eyJhbGciOiJI.eyJzdWIiOiIx.c2lnbmF0dXJl"],
    "private-key": ["-----BEGIN RSA PRIVATE KEY-----\nMIIB\n-----END RSA PRIVATE KEY-----"],
}


def test_every_pattern_has_a_sample() -> None:
    """A new pattern without a sample would not be known to be found in bytes."""
    assert SAMPLES.keys() == PATTERNS.keys()


@pytest.mark.parametrize(
    ("kind", "sample"), [(k, s) for k, found in SAMPLES.items() for s in found]
)
@pytest.mark.parametrize("around", ["{}", "risk {} after", "a line\n{}\n"])
def test_a_secret_is_found_in_bytes(kind: str, sample: str, around: str) -> None:
    """The quick look at the bytes must not pass what the patterns would cut."""
    data = canonical({"note": [around.format(sample)]})

    clean = Redactor().json(data)

    assert plain(clean) == {"note": [around.format(f"[redacted:{kind}]")]}


@pytest.mark.parametrize("name", sorted(KEY_NAMES))
def test_the_value_of_a_secret_key_name_is_cut_in_any_case(name: str) -> None:
    """People write Password as well as password."""
    data = canonical({"a": {name.title(): "hunter2"}})

    clean = Redactor().json(data)

    assert plain(clean) == {"a": {name.title(): f"[redacted:{name}]"}}


@pytest.mark.parametrize("secret", ['qu"ote\\back', "naïve-geheim", "plain.secret+1", "tab\there!"])
def test_a_registered_secret_is_cut_however_json_writes_it(secret: str) -> None:
    """Quotes, backslashes and letters beyond ASCII stand escaped in JSON bytes."""
    data = canonical([f"before {secret} after", json.dumps(secret)])

    clean = Redactor([secret]).json(data)

    assert plain(clean) == ["before [redacted:registered] after", '"[redacted:registered]"']


def test_innocent_bytes_come_back_as_they_are() -> None:
    """What holds no secret is neither copied nor written anew."""
    data = canonical({"task-list": "risk-free sky_high prose", "n": [1, 2.5, None]})

    assert Redactor(["registered"]).json(data) is data
