"""Paths and hosts: what is inside, what is not, and what nobody can say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatebook.kernel.rules.places import (
    PlaceError,
    folder,
    host_pattern,
    is_host,
    is_within,
    read_host,
)


@pytest.mark.parametrize(
    ("path", "inside"),
    [
        ("/srv/tickets", True), ("/srv/tickets/", True), ("/srv/tickets/1", True),
        ("/srv//tickets/./a", True), ("/srv/tickets/.hidden", True), ("/srv/tickets/...", True),
        ("/srv/ticketsX", False), ("/srv", False), ("/", False), ("/etc/passwd", False),
        ("/proc/self/cwd/srv/tickets", False),
        ("/srv/tickets/../../etc/shadow", None), ("/srv/tickets/..", None), ("..", None),
        ("tickets/1", None), ("", None), ("~/x", None), ("/srv/tickets/a\0.txt", None),
        ("/srv/tickets\\..\\x", None), ("/srv/tickets/a\nb", None), ("/SRV/Tickets/1", None),
        ("/srv/\uff54ickets/1", None), ("/" * 5_000, None),
    ],
)  # fmt: skip
def test_a_path_is_inside_a_folder(path: str, inside: bool | None) -> None:
    """Prefixes of text are the best-known hole in this field."""
    assert is_within(path, "/srv/tickets") is inside


def test_a_relative_folder_holds_relative_paths() -> None:
    """What the working directory is, nobody here can know."""
    assert is_within("tickets/1", "tickets") is True
    assert is_within("other/1", "tickets") is False
    assert is_within("/tickets/1", "tickets") is None
    assert is_within("anything", "/") is None
    assert is_within("/anything", "/") is True


@given(st.text("ab/.~\\", max_size=12))
def test_what_is_inside_never_leaves(path: str) -> None:
    """Whatever the spelling, a path that is inside has no way up in it."""
    if is_within(path, "/a"):
        assert ".." not in path.split("/")
        assert "/".join(p for p in path.split("/") if p not in ("", ".")).split("/")[0] == "a"


@pytest.mark.parametrize("text", ["", "/a/../b", "~/x", "a\\b", "/a\0"])
def test_a_folder_that_is_none_is_refused(text: str) -> None:
    """A rule must not rest on a path that means several things."""
    with pytest.raises(PlaceError):
        folder(text)


@pytest.mark.parametrize(
    ("url", "answer"),
    [
        ("https://example.com", True),
        ("https://example.com/", True),
        ("HTTPS://EXAMPLE.com/a", True),
        ("https://example.com.", True),
        ("https://example.com:443/x?y#z", True),
        ("http://example.com:80", True),
        ("example.com", True),
        ("wss://example.com", True),
        ("https://example.com?@evil.com", True),
        ("https://example.com#@evil.com", True),
        ("https://example.com/@evil.com", True),
        ("https://evil.com", False),
        ("https://example.com.evil.com", False),
        ("https://a.example.com", False),
        ("https://notexample.com", False),
        ("https://evil.com/example.com", False),
        ("https://exam_ple.com", False),
        ("https://example.com:8443", None),
        ("http://example.com:443", None),
        ("https://user@example.com", None),
        ("https://example.com@evil.com", None),
        ("https://example.com:pw@evil.com", None),
        ("https://example.com\\@evil.com", None),
        ("https://example.com%2eevil.com", None),
        ("https://example.com%00.evil.com", None),
        ("https://exam\tple.com", None),
        (" https://example.com", None),
        ("https://example.com\n", None),
        ("https://example.com:99999", None),
        ("https://example.com:", None),
        ("https://", None),
        ("https:///example.com", None),
        ("https:example.com", None),
        ("//example.com", None),
        ("/example.com", None),
        ("http:80", None),
        ("javascript:alert(1)", None),
        ("", None),
        ("1http://example.com", None),
        ("https://example..com", None),
        ("https://.example.com", None),
        ("https://-a.com", None),
        ("https://" + "a" * 64 + ".com", None),
        ("https://\uff45xample.com", None),
        ("https://example。com", None),
        ("https://exa\u00admple.com", None),
        ("https://127.0.0.1", None),
        ("https://[::1]", None),
        ("https://2130706433", None),
        ("https://0x7f000001", None),
        ("https://0x7f.1", None),
        ("https://127.1", None),
        ("https://0177.0.0.1", None),
        ("https://[::ffff:127.0.0.1]", None),
        ("https://[::1", None),
        ("https://[fe80::1%25eth0]", None),
        ("https://[v1.x]", None),
        ("x" * 5_000, None),
    ],
)
def test_a_url_leads_to_a_host(url: str, answer: bool | None) -> None:
    """Where two readers of a URL could differ, neither allow nor deny may be evaded."""
    assert is_host(read_host(url), host_pattern("example.com")) is answer


@pytest.mark.parametrize(
    ("pattern", "url", "answer"),
    [
        ("*.example.com", "https://a.example.com", True),
        ("*.example.com", "https://a.b.example.com", True),
        ("*.example.com", "https://example.com", False),
        ("*.example.com", "https://aexample.com", False),
        ("example.com:8443", "https://example.com:8443", True),
        ("example.com:8443", "https://example.com", None),
        ("example.com:*", "https://example.com:1", True),
        ("127.0.0.1", "http://127.0.0.1/", True),
        ("127.0.0.1", "http://[::ffff:7f00:1]/", True),
        ("127.0.0.1", "http://127.0.0.2/", None),
        ("127.0.0.1", "http://localhost/", False),
        ("[::1]:8080", "http://[0:0::1]:8080", True),
        ("[::1]:8080", "http://[::1]", None),
        ("münchen.de", "https://MÜNCHEN.de", True),
        ("münchen.de", "https://xn--mnchen-3ya.de", True),
        ("xn--mnchen-3ya.de", "https://mu\u0308nchen.de", True),
        ("strasse.de", "https://straße.de", None),
    ],
)
def test_hosts_are_compared_in_one_spelling(pattern: str, url: str, answer: bool | None) -> None:
    """Case, dots, IDNA, IPv4 inside IPv6 and ports are spellings, not other places."""
    assert is_host(read_host(url), host_pattern(pattern)) is answer


@pytest.mark.parametrize(
    "text", ["", "https://example.com", "example.com/x", "*", "a.*", "*.10.0.0.1", "a b", "0x7f.1"]
)
def test_a_listed_host_must_be_one(text: str) -> None:
    """A list entry that can never match, or matches everything, is a mistake."""
    with pytest.raises(PlaceError):
        host_pattern(text)


@given(st.text(max_size=30))
def test_any_text_has_an_answer(text: str) -> None:
    """What a model writes must never crash a decision."""
    assert is_host(read_host(text), host_pattern("example.com")) in (True, False, None)
    assert is_within(text, "/srv") in (True, False, None)
