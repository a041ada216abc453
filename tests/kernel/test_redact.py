"""Redaction: every kind of secret is found in stored bytes, wherever it stands in them."""

import json
from base64 import b64encode, urlsafe_b64encode
from urllib.parse import quote, quote_plus

import pytest

from gatebook.kernel.codec import canonical, plain
from gatebook.kernel.redact import KEY_NAMES, PATTERNS, PERCENT, Redactor

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


SECRET = "canary-7f3e91d2b4"
LONG = 400_000  # times a beginning: looked at anew each time, it would take an hour
BEGUN = {
    "parts of a JWT": "-eyJ" * LONG,
    "two parts of one": "-eyJ" * LONG + ".eyJ" + "-eyJ" * LONG + ".",
}


@pytest.mark.parametrize("text", BEGUN.values(), ids=BEGUN)
def test_a_text_of_nothing_but_beginnings_holds_nobody_up(text: str) -> None:
    """A web page may say so, and the worker would stand still with all its runs."""
    redactor = Redactor([SECRET])

    assert redactor.text(f"{text} {SECRET}") == f"{text} [redacted:registered]"
    assert redactor.json(canonical(text)) == canonical(text)


@pytest.mark.parametrize("before", ["", "-eyJ", "x-", "xeyJ-", "eyJ0.", "eyJabcdefgh.x-"])
def test_a_jwt_is_found_after_what_only_begins_like_one(before: str) -> None:
    """What cannot be one is skipped, and not a character more."""
    (token,) = SAMPLES["jwt"]

    assert Redactor().text(f"{before}{token} {token}").endswith("[redacted:jwt] [redacted:jwt]")


def test_what_cannot_be_a_jwt_may_hold_other_secrets() -> None:
    """They stand in the characters that a JWT is of."""
    text = f"eyJabcdefgh-{SECRET}-AKIA{'A1' * 8}"

    assert Redactor([SECRET]).text(text) == "eyJabcdefgh-[redacted:registered]-[redacted:aws-key]"


def test_innocent_bytes_come_back_as_they_are() -> None:
    """What holds no secret is neither copied nor written anew."""
    data = canonical({"task-list": "risk-free sky_high prose", "n": [1, 2.5, None]})

    assert Redactor(["registered"]).json(data) is data


TOKEN = "t0k/En+=?7f3e91 d2b4"  # every way of writing changes some of it
FORMS = {
    "json": json.dumps(TOKEN),
    "json in json": json.dumps(json.dumps(TOKEN)),
    "url": quote(TOKEN, safe=""),
    "path": quote(TOKEN),
    "form": quote_plus(TOKEN),
    "lower": PERCENT.sub(lambda found: found[0].lower(), quote(TOKEN, safe="")),
    "base64": b64encode(TOKEN.encode()).decode(),
    "basic": b64encode(f"user:{TOKEN}".encode()).decode(),
    "after one": b64encode(f"u{TOKEN}tail".encode()).decode(),
    "after two": b64encode(f"uv{TOKEN}".encode()).decode(),
    "url-safe": urlsafe_b64encode(f"{TOKEN}".encode()).decode(),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_registered_secret_is_cut_however_it_is_written(form: str) -> None:
    """A service echoes what it was sent: in a URL, a form, a header, a body."""
    clean = Redactor([TOKEN]).text(f"before {FORMS[form]} after")

    assert "[redacted:registered]" in clean
    assert TOKEN not in clean
    assert not any(piece in clean for piece in pieces(FORMS[form], 11))


@pytest.mark.parametrize("form", FORMS)
def test_it_is_found_in_bytes_too(form: str) -> None:
    """The quick look must not pass what a close look would cut."""
    data = canonical({"echo": FORMS[form]})

    clean = Redactor([TOKEN]).json(data)

    assert b"[redacted:registered]" in clean


ODD = "p!ss/w~rd&'<x+9>7f`3e(91)"
WRITTEN = {
    "PHP's JSON": json.dumps(ODD).replace("/", "\\/"),
    "Go's JSON": "p!ss/w~rd\\u0026'\\u003cx+9\\u003e7f`3e(91)",
    ".NET's JSON": "p!ss/w~rd\\u0026\\u0027\\u003Cx\\u002B9\\u003E7f\\u00603e(91)",
    "encodeURIComponent": "p!ss%2Fw~rd%26'%3Cx%2B9%3E7f%603e(91)",
    "URLSearchParams": "p%21ss%2Fw%7Erd%26%27%3Cx%2B9%3E7f%603e%2891%29",
    "a segment of a path": "p!ss%2Fw~rd&'%3Cx+9%3E7f%603e(91)",
    "a path": "p!ss/w~rd&'%3Cx+9%3E7f%603e(91)",
}


@pytest.mark.parametrize("form", WRITTEN)
def test_a_registered_secret_is_cut_as_other_languages_write_it(form: str) -> None:
    """JSON and URLs leave it to the writer what of a text stands for itself."""
    clean = Redactor([ODD]).json(canonical(f"before {WRITTEN[form]} after"))

    assert plain(clean).strip('b"efor at') == "[redacted:registered]"


@pytest.mark.parametrize("depth", [1, 2])
def test_a_secret_of_several_lines_is_cut_out_of_json_within_json(depth: int) -> None:
    """A private key in the answer of a service, in the log line that quotes the answer."""
    secret = 'begin "key"\nMIIB/x9\u00e9\nend'
    text = secret
    for _ in range(depth):
        text = json.dumps(text)

    clean = Redactor([secret]).text(f"before {text} after")

    assert "[redacted:registered]" in clean
    assert "MIIB" not in clean


@pytest.mark.parametrize("number", [8_312_904_417, 83.12904417])
def test_a_registered_number_is_cut_where_it_is_no_text(number: float) -> None:
    """A PIN or an account number comes back as a JSON number."""
    data = canonical({"account": number, "n": 7})

    clean = Redactor([json.dumps(number)]).json(data)

    assert plain(clean) == {"account": "[redacted:registered]", "n": 7}


@pytest.mark.parametrize("cut", range(16, 40))
def test_a_message_cut_within_a_secret_does_not_keep_its_beginning(cut: int) -> None:
    """Messages show refused values, and are cut before anybody can redact them."""
    secret = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b"
    message = f"got '{secret[:cut]}...'; pass a number"

    clean = Redactor([secret]).told(message)

    assert clean == "got '[redacted:registered]...'; pass a number"


def test_a_message_that_begins_with_a_cut_secret_does_not_keep_it() -> None:
    """Nothing has to stand before it."""
    secret = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b"

    assert Redactor([secret]).told(f"{secret[:20]}...") == "[redacted:registered]..."


def test_a_secret_that_is_a_word_of_the_mark_ends_too() -> None:
    """The mark must not be looked at again."""
    assert Redactor(["registered"]).told("it was registered") == "it was [redacted:registered]"


def test_a_reference_under_a_secret_name_stays() -> None:
    """It is the remedy for a secret that stands there."""
    data = canonical({"password": "secret://crm.password", "api_key": "secret://"})

    clean = Redactor().json(data)

    assert plain(clean) == {"api_key": "[redacted:api_key]", "password": "secret://crm.password"}


def test_added_secrets_join_the_known_ones() -> None:
    """What is resolved while runs go on is cut from then on, and what was known still is."""
    redactor = Redactor(["first-secret"])

    redactor.add(["second-secret", "short"])

    assert redactor.text("first-secret second-secret short") == (
        "[redacted:registered] [redacted:registered] short"
    )


@pytest.mark.parametrize("name", sorted(KEY_NAMES))
def test_the_shortest_text_under_a_secret_name_is_cut_out(name: str) -> None:
    """Data too short for any secret is not looked at, and this is not that short."""
    assert plain(Redactor().json(canonical({name: "x"}))) == {name: f"[redacted:{name}]"}


@pytest.mark.parametrize("secret", ["s3cr3t-x", "12345678"])
def test_the_shortest_registered_value_is_cut_out_of_data_that_is_nothing_else(secret: str) -> None:
    """As a text, and as digits, which have no quotes around them."""
    for data in {canonical(secret), secret.encode() if secret.isdigit() else canonical([secret])}:
        assert secret.encode() not in Redactor([secret]).json(data)


def pieces(text: str, size: int) -> set[str]:
    """Every run of `size` characters of a text."""
    return {text[at : at + size] for at in range(len(text) - size + 1)}
