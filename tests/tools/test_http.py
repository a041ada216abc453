"""`http`: requests to real servers of this machine, and to addresses that must not be called."""

import asyncio
import base64
import gzip
import json
import shutil
import socket
import ssl
import subprocess
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.runtime.kit import PATIENCE_S, Desk, flow
from tests.tools.shipped import ask

from gatebook.errors import ActionError, ConfigError
from gatebook.kernel.events import ActionFailed, ActionRequested, ActionUnknown, AttemptFailed
from gatebook.runtime.runs.states import Finished
from gatebook.testing.fault_server import (
    Cut,
    FaultServer,
    Hold,
    Play,
    Received,
    Reset,
    Send,
    Stall,
    answer,
    head,
)
from gatebook.tools import http

Scenario = Callable[[FaultServer], Awaitable[Any]]
HERE = ("127.0.0.1",)


def with_server(scenario: Scenario, *plays: Any, choose: Any = None) -> Any:
    """Run a scenario beside a server."""

    async def bounded() -> Any:
        async with asyncio.timeout(PATIENCE_S), FaultServer(*plays, choose=choose) as server:
            return await scenario(server)

    return asyncio.run(bounded())


def at(server: FaultServer, host: str = "127.0.0.1") -> str:
    """The server as a host of a list."""
    return f"{host}:{server.url.rpartition(':')[2]}"


def names(**table: Any) -> Any:
    """A resolver that knows a few names, and remembers who was asked for."""

    async def resolve(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        found: list[str] = table[host.partition(".")[0]]
        return found.pop(0).split() if len(found) > 1 else found[0].split()

    asked: list[str] = []
    resolve.asked = asked  # type: ignore[attr-defined]
    return resolve


def tools(hosts: Sequence[str], **options: Any) -> dict[str, Any]:
    """The tools of some hosts, over plain HTTP and on this machine, by the end of their names."""
    given: dict[str, Any] = {"schemes": ["http"], "private": HERE}
    given |= {"methods": ["GET", "POST"], **options}
    return {tool.name.rpartition(".")[2]: tool for tool in http(hosts, **given)}


async def refused(made: Any, **args: Any) -> ActionError:
    """The error that says: refused, and nothing happened."""
    with pytest.raises(ActionError) as caught:
        await ask(made, **args)
    return caught.value


# ---- what is offered ----


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


# ---- what is asked and answered ----


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


# ---- where it goes ----


def test_a_host_that_is_not_listed_is_not_asked() -> None:
    """The list is checked before anything is resolved."""
    resolve = names(evil=["127.0.0.1"])

    async def scenario(server: FaultServer) -> None:
        get = tools([at(server)], resolve=resolve)["get"]
        error = await refused(get, url=f"http://{at(server, 'evil.example')}/")

        assert error.code == "E_HTTP_HOST"
        assert (server.count, resolve.asked) == (0, [])

    with_server(scenario, answer(200, ""))


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "::1", "169.254.169.254", "10.0.0.1", "::ffff:127.0.0.1", "0.0.0.0", "fe80::1"],
)
def test_a_listed_host_with_an_address_of_ours_is_not_asked(address: str) -> None:
    """A10: a name can be pointed anywhere by whoever owns it."""
    resolve = names(web=[f"93.184.216.34 {address}"])

    async def scenario(server: FaultServer) -> None:
        host = at(server, "web.example")
        error = await refused(
            tools([host], private=(), resolve=resolve)["get"], url=f"http://{host}"
        )

        assert error.code == "E_HTTP_ADDRESS"
        assert server.connections == 0

    with_server(scenario, answer(200, ""))


def test_an_address_in_a_url_is_checked_as_well() -> None:
    """A10: to list an address is not to say that it may be one of ours."""

    async def scenario(server: FaultServer) -> None:
        error = await refused(tools([at(server)], private=())["get"], url=server.url)

        assert error.code == "E_HTTP_ADDRESS"
        assert server.connections == 0

    with_server(scenario, answer(200, ""))


def test_the_address_that_was_checked_is_the_one_that_is_called() -> None:
    """DNS rebinding: a second look-up would answer otherwise. There is none."""
    resolve = names(web=["127.0.0.1", "169.254.169.254"])

    async def scenario(server: FaultServer) -> None:
        host = at(server, "web.example")
        get = tools([host], resolve=resolve)["get"]
        await ask(get, url=f"http://{host}/a")

        assert [r.headers["host"] for r in server.requests] == [host]
        assert resolve.asked == ["web.example"]
        assert (await refused(get, url=f"http://{host}/b")).code == "E_HTTP_ADDRESS"
        assert server.connections == 1

    with_server(scenario, answer(200, ""))


def test_a_name_that_cannot_be_resolved_is_no_effect() -> None:
    """So even what may happen only once can be tried again."""

    async def fails(host: str, port: int) -> Sequence[str]:
        raise socket.gaierror("no such name")

    async def scenario() -> ActionError:
        return await refused(
            tools(["web.example"], resolve=fails)["send"], url="http://web.example"
        )

    assert asyncio.run(scenario()).kind == "transient"


def test_the_next_address_is_tried_when_one_does_not_answer() -> None:
    """Nothing was sent to the first."""
    resolve = names(web=["127.0.0.2 127.0.0.1"])

    async def scenario(server: FaultServer) -> None:
        host = at(server, "web.example")
        made = tools([host], private=["127.0.0.0/8"], resolve=resolve)

        assert (await ask(made["send"], url=f"http://{host}/"))["status"] == 200

    with_server(scenario, answer(200, ""))


def test_a_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would resolve by itself, and be asked for what was refused here."""

    async def scenario(server: FaultServer) -> None:
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
        monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")

        assert (await ask(tools([at(server)])["get"], url=server.url))["status"] == 200

    with_server(scenario, answer(200, ""))


# ---- redirects ----


def redirect(to: str, status: int = 302) -> Play:
    """An answer that leads elsewhere."""
    return answer(status, "", location=to)


def test_a_redirect_is_followed_to_a_listed_host() -> None:
    """Relative ones too."""

    async def scenario(server: FaultServer) -> None:
        found = await ask(tools([at(server)])["get"], url=f"{server.url}/a/b?c")

        assert (found["url"], found["text"]) == (f"{server.url}/a/d", "there")
        assert [r.path for r in server.requests] == ["/a/b?c", "/a/d"]

    with_server(scenario, redirect("d"), answer(200, "there"))


@pytest.mark.parametrize(
    ("to", "code"),
    [
        ("http://169.254.169.254/latest/meta-data", "E_HTTP_HOST"),
        ("//evil.example/", "E_HTTP_HOST"), ("https://127.0.0.1/", "E_HTTP_URL"),
        ("file:///etc/passwd", "E_HTTP_URL"), ("http://user@127.0.0.1/", "E_HTTP_URL"),
        ("/" + "x" * 5_000, "E_HTTP_URL"),
    ],
)  # fmt: skip
def test_a_redirect_elsewhere_is_refused(to: str, code: str) -> None:
    """A10: each hop is checked like the first."""

    async def scenario(server: FaultServer) -> None:
        error = await refused(tools([at(server)])["get"], url=server.url)

        assert (error.code, server.count) == (code, 1)

    with_server(scenario, redirect(to), answer(200, "not reached"))


def test_a_redirect_to_an_address_of_ours_is_refused() -> None:
    """A10: the listed name is resolved and checked again."""
    resolve = names(web=["127.0.0.1"], other=["10.0.0.1"])

    async def scenario(server: FaultServer) -> None:
        web = at(server, "web.example")
        get = tools([web, "other.example"], resolve=resolve)["get"]

        assert (await refused(get, url=f"http://{web}/")).code == "E_HTTP_ADDRESS"
        assert server.count == 1

    with_server(scenario, redirect("http://other.example/"))


def test_redirects_end() -> None:
    """Two servers can send a client to and fro for ever."""

    async def scenario(server: FaultServer) -> None:
        error = await refused(tools([at(server)])["get"], url=server.url)

        assert (error.code, server.count) == ("E_HTTP_REDIRECTS", 6)

    with_server(scenario, redirect("/again"))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_what_has_an_effect_follows_no_redirect(status: int) -> None:
    """The request was taken; another one is another action, and asked for as such."""

    async def scenario(server: FaultServer) -> None:
        found = await ask(tools([at(server)])["send"], url=server.url, body="x")

        assert (found["status"], found["headers"]["location"]) == (status, "/other")
        assert server.count == 1

    with_server(scenario, redirect("/other", status))


# ---- keys ----


def test_keys_go_to_their_host_only() -> None:
    """A redirect to another listed host must not carry them along."""
    resolve = names(one=["127.0.0.1"], two=["127.0.0.1"])

    async def scenario(server: FaultServer) -> None:
        one, two = at(server, "one.example"), at(server, "two.example")
        get = tools(
            [one, two], resolve=resolve, headers_for={one: {"Authorization": lambda: "Bearer 1"}}
        )["get"]
        server._plays = (redirect(f"http://{two}/"), answer(200, ""))
        await ask(get, url=f"http://{one}/")

        assert [r.headers.get("authorization") for r in server.requests] == ["Bearer 1", None]

    with_server(scenario, answer(200, ""))


def test_a_key_that_a_server_repeats_is_cut() -> None:
    """An answer is journaled, shown to the model and printed."""

    async def scenario(server: FaultServer) -> None:
        host = at(server)
        key = lambda: "Bearer canary-7f3e91d2b4"  # noqa: E731 - as users write it
        get = tools([host], headers_for={host: {"Authorization": key}})["get"]

        found = await ask(get, url=server.url)

        assert "canary" not in json.dumps(found)
        assert found["text"] == "no such key: [key] ([key])"

    said = "no such key: canary-7f3e91d2b4 (Bearer canary-7f3e91d2b4)"
    with_server(scenario, answer(401, said, etag="canary-7f3e91d2b4"))


def test_a_key_function_is_asked_each_time() -> None:
    """Keys are renewed while a worker lives."""
    keys = iter(["first", "second"])

    async def scenario(server: FaultServer) -> None:
        host = at(server)
        get = tools([host], headers_for={host: {"X-Key": lambda: next(keys)}})["get"]
        await ask(get, url=server.url)
        await ask(get, url=server.url)

        assert [r.headers["x-key"] for r in server.requests] == ["first", "second"]

    with_server(scenario, answer(200, ""))


@pytest.mark.parametrize("value", ["a\r\nb: c", "é", None])
def test_a_key_that_no_header_may_hold_is_not_sent(value: Any) -> None:
    """Nor is it in the error."""

    async def scenario(server: FaultServer) -> None:
        host = at(server)
        get = tools([host], headers_for={host: {"X-Key": lambda: value}})["get"]

        assert (await refused(get, url=server.url)).code == "E_HTTP_HEADER"
        assert server.count == 0

    with_server(scenario, answer(200, ""))


# ---- TLS ----


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for web.example with its key, in one file."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl, which makes certificates, is not installed")
    path = tmp_path_factory.mktemp("tls") / "web.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=web.example",
         "-addext", "subjectAltName=DNS:web.example", "-days", "2", "-keyout", "key.pem",
         "-out", "cert.pem"],
        cwd=path.parent, check=True, capture_output=True,
    )  # fmt: skip
    parts = [(path.parent / name).read_text() for name in ("key.pem", "cert.pem")]
    path.write_text("".join(parts))
    return path


def over_tls(certificate: Path, scenario: Callable[[int, list[bytes]], Awaitable[None]]) -> None:
    """Run a scenario beside a server with a certificate, given its port and what it was sent."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(head(200, {"content-length": "2"}) + b"ok")
        await writer.drain()
        writer.close()

    async def bounded() -> None:
        async with asyncio.timeout(PATIENCE_S):
            server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
            async with server:
                await scenario(server.sockets[0].getsockname()[1], heard)

    asyncio.run(bounded())


def test_the_certificate_is_checked_for_the_name_though_an_address_is_called(
    certificate: Path,
) -> None:
    """Calling a checked address must not cost what TLS proves."""
    resolve = names(web=["127.0.0.1"], other=["127.0.0.1"])

    async def scenario(port: int, heard: list[bytes]) -> None:
        hosts = [f"web.example:{port}", f"other.example:{port}"]
        tls = ssl.create_default_context(cafile=str(certificate))
        made = tools(hosts, schemes=["https"], resolve=resolve, tls=tls)

        assert (await ask(made["get"], url=f"https://{hosts[0]}/"))["text"] == "ok"
        error = await refused(made["send"], url=f"https://{hosts[1]}/")
        assert error.kind == "permanent"
        assert "certificate of other.example is not good" in str(error)
        assert [b"host: web.example" in request.lower() for request in heard] == [True]

    over_tls(certificate, scenario)


def test_an_unknown_certificate_is_refused(certificate: Path) -> None:
    """Nothing was sent, and no retry makes it good."""
    resolve = names(web=["127.0.0.1"])

    async def scenario(port: int, heard: list[bytes]) -> None:
        host = f"web.example:{port}"
        made = tools([host], schemes=["https"], resolve=resolve)

        assert (await refused(made["get"], url=f"https://{host}/")).kind == "permanent"
        assert heard == []

    over_tls(certificate, scenario)


# ---- what is known when it fails, in a run ----


async def one_call(made: Any, url: str) -> tuple[Any, Desk]:
    """Where a workflow that makes one request comes to rest."""
    desk = Desk()

    async def body(ctx: Any) -> str:
        try:
            return str((await ctx.call_tool(made, url=url)).status)
        except ActionError as exc:
            return exc.code

    async with desk.open() as runtime:
        state = await desk.settled(await runtime.start(flow(body, made), None, run_id="r"))
        await desk.events("r")
    await desk.journal.open()
    return state, desk


@pytest.mark.parametrize("end", [Cut(), Reset()])
def test_a_sent_request_without_an_answer_is_unknown(end: Any) -> None:
    """It may have happened: a person must look, nothing repeats it."""

    async def scenario(server: FaultServer) -> None:
        _, desk = await one_call(tools([at(server)])["send"], server.url)

        await desk.only("r", ActionUnknown)
        assert server.count == 1

    with_server(scenario, Play(end))


def test_a_refused_connection_is_no_effect() -> None:
    """Nothing can have happened, so nobody has to look."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    async def scenario() -> None:
        made = tools([f"127.0.0.1:{port}"])["send"]
        _, desk = await one_call(made, f"http://127.0.0.1:{port}/")

        assert (await desk.only("r", ActionFailed)).error.kind == "transient"

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "trouble", [Play(Cut()), answer(503, "", retry_after="1"), answer(502, "")]
)
def test_a_read_that_failed_is_repeated(trouble: Play) -> None:
    """Its retry has one owner, who journals it."""

    async def scenario(server: FaultServer) -> None:
        state, desk = await one_call(tools([at(server)])["get"], server.url)

        assert (state, server.count) == (Finished("200"), 2)
        await desk.only("r", AttemptFailed)

    with_server(scenario, trouble, answer(200, ""))


def test_a_server_that_asks_to_wait_is_given_that_time() -> None:
    """It knows when it will have room."""

    async def scenario(server: FaultServer) -> None:
        _, desk = await one_call(tools([at(server)])["get"], server.url)

        assert (await desk.only("r", AttemptFailed)).delay_ms == 7_000

    with_server(scenario, answer(429, "", retry_after="7"), answer(200, ""))


@pytest.mark.parametrize("trouble", [Play(Cut()), answer(503, "")])
def test_a_keyed_request_is_repeated_with_the_same_key(trouble: Play) -> None:
    """The server tells by it that it has done this already."""

    async def scenario(server: FaultServer) -> None:
        made = tools([at(server)], key_header="Idempotency-Key")["send"]
        state, _ = await one_call(made, server.url)

        assert state == Finished("201")
        first, second = (r.headers["idempotency-key"] for r in server.requests)
        assert first == second
        assert first.startswith("gb1-")

    with_server(scenario, trouble, answer(201, ""))


@pytest.mark.parametrize("status", [400, 429, 500, 503])
def test_an_answer_to_what_may_happen_only_once_is_a_result(status: int) -> None:
    """Whatever it says: only the model can know what to do about it, and nothing repeats it."""

    async def scenario(server: FaultServer) -> None:
        state, _ = await one_call(tools([at(server)])["send"], server.url)

        assert (state, server.count) == (Finished(str(status)), 1)

    with_server(scenario, answer(status, ""))


def test_a_request_that_is_not_answered_in_time_is_unknown_and_closed() -> None:
    """The connection does not outlive the attempt."""

    async def scenario(server: FaultServer) -> None:
        made = tools([at(server)], timeout=0.2)["send"]
        _, desk = await one_call(made, server.url)

        assert (await desk.only("r", ActionUnknown)).error.code == "E_UNKNOWN_TIMEOUT"
        await server.until(lambda s: s.open_connections == 0)

    with_server(scenario, Play(Stall()))


def test_what_is_decided_about_is_what_is_asked() -> None:
    """The request of the journal names the whole address."""

    async def scenario(server: FaultServer) -> None:
        _, desk = await one_call(tools([at(server)])["get"], f"{server.url}/x?y")

        action: Any = (await desk.only("r", ActionRequested)).action
        assert json.loads(bytes(action.args))["url"] == f"{server.url}/x?y"

    with_server(scenario, answer(200, ""))


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

    with_server(scenario, choose=choose)


def held(free: asyncio.Event) -> Play:
    """An answer that comes when an event is set."""
    return Play(Hold(free), Send(head(200, {"content-length": "0"})))
