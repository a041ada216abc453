"""What `http` sends to a server and what it makes of an answer."""

import asyncio
import base64
import gzip
import zlib

import pytest
from tests.tools.shipped import ask
from tests.tools.web import at, refused, tools, with_server

from gatebook.testing.fault_server import (
    FaultServer,
    Hold,
    Play,
    Received,
    Send,
    Stall,
    answer,
    head,
)


def test_an_answer_has_status_headers_and_text() -> None:
    """What a model needs to go on."""

    async def scenario(server: FaultServer) -> None:
        found = await ask(tools([at(server)])["get"], url=f"{server.url}/a?b=c#d")

        assert found == {
            "url": f"{server.url}/a?b=c", "status": 404, "encoding": "utf-8", "truncated": False,
            "headers": {"content-type": "application/json", "content-length": "5"}, "text": "grün",
        }  # fmt: skip
        assert (server.requests[0].method, server.requests[0].path) == ("GET", "/a?b=c")

    with_server(scenario, answer(404, "grün", set_cookie="a=b", server="x"))


def test_a_request_says_little_about_this_machine() -> None:
    """Nothing of the environment, no cookie, no name of a library."""

    async def scenario(server: FaultServer) -> None:
        get = tools([at(server)])["get"]
        await ask(get, url=server.url)
        await ask(get, url=server.url)

        assert server.requests[1].headers == {
            "host": at(server), "accept": "*/*", "user-agent": "gatebook",
            "accept-encoding": "gzip, deflate", "connection": "close",
        }  # fmt: skip

    with_server(scenario, answer(200, "x", set_cookie="session=1"))


def test_a_body_is_sent_with_its_type() -> None:
    """JSON unless said otherwise."""

    async def scenario(server: FaultServer) -> None:
        send = tools([at(server)])["send"]
        await ask(send, url=server.url, body='{"a":1}')
        await ask(send, url=server.url, body="grün")
        await ask(send, url=server.url, body="<a/>", headers={"Content-Type": "text/xml"})

        assert [r.headers["content-type"] for r in server.requests] == [
            "application/json", "text/plain; charset=utf-8", "text/xml",
        ]  # fmt: skip
        assert [r.body for r in server.requests] == [b'{"a":1}', "grün".encode(), b"<a/>"]

    with_server(scenario, answer(201, ""))


def test_a_body_too_deep_to_be_looked_into_is_sent_as_text() -> None:
    """A model that nests brackets must not leave a request unknown that was never sent."""

    async def scenario(server: FaultServer) -> None:
        found = await ask(tools([at(server)])["send"], url=server.url, body="[" * 100_000)

        assert found["status"] == 201
        assert server.requests[0].headers["content-type"] == "text/plain; charset=utf-8"

    with_server(scenario, answer(201, ""))


def test_only_listed_headers_may_be_set() -> None:
    """A header can say who asks, and for whom."""

    async def scenario(server: FaultServer) -> None:
        get = tools([at(server)])["get"]
        for name, value in {
            "Authorization": "x", "Cookie": "a=b", "Host": "evil", "X-Forwarded-For": "::1",
            "Accept": "a\r\nx: y", "accept": "x" * 5_000,
        }.items():  # fmt: skip
            error = await refused(get, url=server.url, headers={name: value})
            assert error.code == "E_HTTP_HEADER"
        twice = await refused(get, url=server.url, headers={"Accept": "a", "accept": "b"})
        assert twice.code == "E_HTTP_HEADER"
        await ask(get, url=server.url, headers={"Accept": "text/html"})

        assert [r.headers["accept"] for r in server.requests] == ["text/html"]

    with_server(scenario, answer(200, ""))


@pytest.mark.parametrize(
    ("charset", "body", "encoding", "text"),
    [
        ("; charset=iso-8859-1", b"gr\xfcn", "utf-8", "grün"),
        ("", b"\xff\x00", "base64", base64.b64encode(b"\xff\x00").decode()),
        ("; charset=no-such", b"x", "utf-8", "x"),
        ("; charset=zlib", b"x", "utf-8", "x"),
        ("; charset=unicode_escape", rb"\u0041", "utf-8", r"\u0041"),
    ],
)
def test_a_body_is_read_by_its_charset(charset: str, body: bytes, encoding: str, text: str) -> None:
    """By one of the usual ones: Python knows some that unpack or run away."""

    async def scenario(server: FaultServer) -> None:
        found = await ask(tools([at(server)])["get"], url=server.url)

        assert (found["encoding"], found["text"]) == (encoding, text)

    with_server(scenario, answer(200, body, content_type=f"text/plain{charset}"))


def test_a_long_body_is_read_to_the_limit_only() -> None:
    """A17: a stream without an end must end here."""

    async def scenario(server: FaultServer) -> None:
        found = await ask(tools([at(server)], max_bytes=10)["get"], url=server.url)

        assert (found["text"], found["truncated"]) == ("y" * 10, True)
        await server.until(lambda s: s.open_connections == 0)

    endless = Play(Send(head(200, {"content-type": "text/plain"})), Send(b"y" * 100_000), Stall())
    with_server(scenario, endless)


def test_a_packed_body_is_unpacked_to_the_limit_only() -> None:
    """A17: a megabyte can stand for a gigabyte."""
    bomb = gzip.compress(b"y" * 50_000_000)

    async def scenario(server: FaultServer) -> None:
        found = await ask(tools([at(server)], max_bytes=1_000)["get"], url=server.url)

        assert (found["text"], found["truncated"]) == ("y" * 1_000, True)

    with_server(scenario, answer(200, bomb, content_encoding="gzip", content_type="text/plain"))


def flushed(data: bytes) -> bytes:
    """A packed text that goes on."""
    packer = zlib.compressobj()
    return packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH)


@pytest.mark.parametrize("coding", ["gzip, gzip", "br"])
def test_a_body_in_codings_that_were_not_asked_for_is_given_as_it_came(coding: str) -> None:
    """Unpacked one within the other, a few bytes can stand for more than any machine holds."""
    packed = gzip.compress(gzip.compress(b"y" * 5_000_000))

    async def scenario(server: FaultServer) -> None:
        found = await ask(tools([at(server)])["get"], url=server.url)

        assert (found["text"], found["encoding"]) == (base64.b64encode(packed).decode(), "base64")
        assert found["headers"]["content-encoding"] == coding

    charset = "text/plain; charset=iso-8859-1"
    with_server(scenario, answer(200, packed, content_encoding=coding, content_type=charset))


@pytest.mark.parametrize(
    ("coding", "beginning", "following"),
    [
        ("gzip", gzip.compress(b"yes"), b"\0"),  # behind the end
        ("deflate", flushed(b"yes"), b"\0\0\0\xff\xff"),  # empty blocks
    ],
    ids=["gzip", "deflate"],
)
def test_a_packed_body_that_never_ends_and_says_nothing_is_left(
    coding: str, beginning: bytes, following: bytes
) -> None:
    """What is unpacked is not all that is read: the rest must have a limit as well."""
    headers = {"content-type": "text/plain", "content-encoding": coding}
    endless = Play(Send(head(200, headers)), Send(beginning), Send(following * 200_000), Stall())

    async def scenario(server: FaultServer) -> None:
        found = await ask(tools([at(server)], max_bytes=1_000)["get"], url=server.url)

        assert found["text"] == "yes"
        await server.until(lambda s: s.open_connections == 0)

    with_server(scenario, endless)


@pytest.mark.parametrize("bare", [False, True])
def test_a_deflated_body_is_unpacked_with_and_without_its_frame(bare: bool) -> None:
    """RFC 9110 means zlib's; some servers leave that out."""
    packed = zlib.compress(b"tea")[2:-4] if bare else zlib.compress(b"tea")

    async def scenario(server: FaultServer) -> None:
        found = await ask(tools([at(server)])["get"], url=server.url)

        assert (found["text"], found["truncated"]) == ("tea", False)
        assert "content-encoding" not in found["headers"]

    with_server(scenario, answer(200, packed, content_encoding="deflate"))


def test_a_body_that_is_not_packed_as_it_says_broke() -> None:
    """Half of an answer is none."""

    async def scenario(server: FaultServer) -> None:
        with pytest.raises(ConnectionError, match="broke"):
            await ask(tools([at(server)])["get"], url=server.url)

    with_server(scenario, answer(200, b"plain", content_encoding="gzip"))


def test_requests_do_not_wait_for_each_other() -> None:
    """One slow server must not stop the others."""
    free = asyncio.Event()

    def choose(received: Received) -> Play:
        if received.path == "/last":
            free.set()
        return answer(200, "") if received.path == "/last" else held(free)

    async def scenario(server: FaultServer) -> None:
        get = tools([at(server)])["get"]
        async with asyncio.TaskGroup() as group:
            for n in range(5):
                group.create_task(ask(get, url=f"{server.url}/{n}"))
            await server.until(lambda s: s.count == 5)
            group.create_task(ask(get, url=f"{server.url}/last"))

    with_server(scenario, choose)


def held(free: asyncio.Event) -> Play:
    """An answer that comes when an event is set."""
    return Play(Hold(free), Send(head(200, {"content-length": "0"})))
