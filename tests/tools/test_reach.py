"""Where requests may go: which URLs are listed, and which addresses are everybody's."""

from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatebook.errors import ConfigError, Permanent
from gatebook.tools.reach import kind_of, reach

HOSTS = ["api.example.com", "*.docs.example", "203.0.113.7:8443", "open.example:*"]


def allowed(url: str, *, schemes: Any = ("https",), private: Any = ()) -> str:
    """The code of the refusal of a URL, "" when it may be asked."""
    try:
        reach("http", HOSTS, schemes, private).check(url)
    except Permanent as exc:
        return exc.code
    return ""


@pytest.mark.parametrize(
    "url",
    [
        "https://api.example.com/", "https://API.example.com/x?y", "https://api.example.com:443",
        "https://a.docs.example/", "https://a.b.docs.example", "https://203.0.113.7:8443/x",
        "https://open.example:1234/", "HTTPS://api.example.com./x",
    ],
)  # fmt: skip
def test_a_listed_host_may_be_asked(url: str) -> None:
    """Case, an explicit default port and a last dot change no host."""
    assert allowed(url) == ""


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/", "https://api.example.com.evil.example/", "https://evil/",
        "https://docs.example/", "https://xdocs.example/", "https://api.example.com:8443/",
        "https://203.0.113.7/", "https://api.example.co\u043c/", "https://127.0.0.1/",
        "https://xn--api-example-com/",
    ],
)  # fmt: skip
def test_a_host_or_port_that_is_not_listed_is_refused(url: str) -> None:
    """A prefix, a suffix and a look-alike of a listed name are other names."""
    assert allowed(url) in ("E_HTTP_HOST", "E_HTTP_URL")


@pytest.mark.parametrize(
    "url",
    [
        "http://api.example.com/", "ftp://api.example.com/", "file:///etc/passwd", "",
        "api.example.com", "//api.example.com/", "https:api.example.com", "https:///x",
        "https://user@api.example.com/", "https://api.example.com@evil.example/",
        "https://evil.example\\@api.example.com/", "https://api.example.com%2eevil.example/",
        "https://api.example.com\t/", "https://api.example.com/\r\nHost: evil", " https://x",
        "https://2130706433/", "https://0x7f.1/", "https://0177.0.0.1/", "https://127.1/",
        "https://[fe80::1%25eth0]/", "https://api.example.com:0/", "https://api.example.com:x/",
        "javascript://api.example.com/", "https://api.example.com:443:80/",
    ],
)  # fmt: skip
def test_a_url_that_can_be_read_in_two_ways_is_refused(url: str) -> None:
    """A10: what one reader takes for the path is the host to another."""
    assert allowed(url) in ("E_HTTP_URL", "E_HTTP_HOST")


@given(st.text(max_size=40))
def test_no_text_before_the_host_or_behind_it_makes_it_another(text: str) -> None:
    """Whatever stands there, only a listed host is returned."""
    for url in (f"https://{text}api.example.com", f"https://api.example.com{text}"):
        try:
            found = reach("http", ["api.example.com"], ["https"], ()).check(url)
        except Permanent:
            continue
        assert (found.host.name, found.port) == ("api.example.com", 443)


@pytest.mark.parametrize(
    "path", ["/public/../admin", "/a/./b", "/..", "/a/%2e%2E/b", "/a/.%2e", "/./?x", "/..#x"]
)
def test_a_path_that_would_be_sent_as_another_is_refused(path: str) -> None:
    """A policy that allows /public/* must not be asked about /admin in that guise."""
    assert allowed(f"https://api.example.com{path}") == "E_HTTP_URL"


@pytest.mark.parametrize("path", ["/a..b/.c/d.", "/...", "/a?b=/../c", "/a#/../b", "//a"])
def test_dots_that_are_no_way_up_may_be_in_a_url(path: str) -> None:
    """Files begin with dots, and queries hold anything."""
    assert allowed(f"https://api.example.com{path}") == ""


def test_plain_http_is_asked_only_when_it_is_declared() -> None:
    """Whoever sits on the way reads it and changes it."""
    assert allowed("http://api.example.com/", schemes=["https", "http"]) == ""
    assert allowed("https://api.example.com/", schemes=["http"]) == "E_HTTP_URL"


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("127.0.0.1", "loopback"), ("127.9.9.9", "loopback"), ("::1", "loopback"),
        ("169.254.169.254", "link-local"), ("fe80::1", "link-local"),
        ("0.0.0.0", "unspecified"), ("::", "unspecified"),
        ("224.0.0.1", "a multicast address"), ("ff02::1", "a multicast address"),
        ("10.0.0.1", "private or reserved"), ("172.16.0.1", "private or reserved"),
        ("192.168.1.1", "private or reserved"), ("100.64.0.1", "private or reserved"),
        ("0.1.2.3", "private or reserved"), ("192.0.2.1", "private or reserved"),
        ("240.0.0.1", "private or reserved"), ("255.255.255.255", "private or reserved"),
        ("fc00::1", "private or reserved"), ("fec0::1", "private or reserved"),
        ("2001:db8::1", "private or reserved"), ("::7f00:1", "private or reserved"),
        ("64:ff9b:1::7f00:1", "private or reserved"), ("3fff::1", "private or reserved"),
        ("192.0.0.192", "private or reserved"), ("::ffff:192.0.0.192", "private or reserved"),
        ("::ffff:127.0.0.1", "loopback"), ("::ffff:169.254.169.254", "link-local"),
        ("64:ff9b::a9fe:a9fe", "link-local"), ("64:ff9b::a00:1", "private or reserved"),
        ("2002:7f00:1::", "loopback"), ("2002:a00:1::", "private or reserved"),
        ("2001:0:4136:e378:8000:63bf:3fff:fdd2", "a relay address"),
        ("93.184.216.34", ""), ("2606:4700:4700::1111", ""), ("::ffff:93.184.216.34", ""),
        ("64:ff9b::5db8:d822", ""),
    ],
)  # fmt: skip
def test_every_address_is_of_a_kind(address: str, kind: str) -> None:
    """A10: the address counts, not how it is written or what it is wrapped in."""
    assert kind_of(ip_address(address)) == kind


def addresses(*found: str, private: Any = ()) -> str:
    """The code of the refusal of a host's addresses, "" when they may be called."""
    allowed = reach("http", HOSTS, ["https"], private)
    try:
        allowed.check_addresses(allowed.check("https://api.example.com/"), found)
    except Permanent as exc:
        return exc.code
    return ""


def test_one_address_that_is_not_public_refuses_the_host() -> None:
    """A name server of an attacker answers with a good one first."""
    assert addresses("93.184.216.34") == ""
    assert addresses("93.184.216.34", "127.0.0.1") == "E_HTTP_ADDRESS"
    assert addresses("what is no address") == "E_HTTP_ADDRESS"


def test_a_declared_network_may_be_reached_and_nothing_beside_it() -> None:
    """A service of one's own need not open the whole network."""
    assert addresses("10.2.3.4", private=["10.2.0.0/16"]) == ""
    assert addresses("::ffff:10.2.3.4", private=["10.2.0.0/16"]) == ""
    assert addresses("10.3.0.1", private=["10.2.0.0/16"]) == "E_HTTP_ADDRESS"
    assert addresses("127.0.0.1", private="127.0.0.1") == ""


@pytest.mark.parametrize(
    ("hosts", "schemes", "private"),
    [
        ([], ["https"], []), ("api.example.com", ["https"], []),
        (["https://a.example"], ["https"], []),
        (["*"], ["https"], []), (["a.*.example"], ["https"], []), (["a b"], ["https"], []),
        (["a.example"], [], []), (["a.example"], "https", []), (["a.example"], ["ftp"], []),
        (["a.example"], ["https"], ["10.0.0.1/8"]), (["a.example"], ["https"], ["a.example"]),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(hosts: Any, schemes: Any, private: Any) -> None:
    """A list that says nothing, or everything, is a mistake."""
    with pytest.raises(ConfigError) as caught:
        reach("http", hosts, schemes, private)

    assert caught.value.code == "E_TOOL_DECLARATION"
