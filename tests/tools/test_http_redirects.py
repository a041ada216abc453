"""Where `http` lets itself be sent on to."""

import pytest
from tests.tools.shipped import ask
from tests.tools.web import at, names, redirect, refused, tools, with_server

from gatebook.testing.fault_server import FaultServer, answer


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
        ("/" + "x" * 5_000, "E_HTTP_URL"), ("http://[::1", "E_HTTP_URL"), ("//[", "E_HTTP_URL"),
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


def test_what_a_model_says_to_one_host_does_not_go_on_to_another() -> None:
    """A host that is asked with a password could have it sent to whom it likes."""
    resolve = names(one=["127.0.0.1"], two=["127.0.0.1"])
    given = {"authorization": "Bearer of-one", "accept": "text/html"}

    async def scenario(server: FaultServer) -> None:
        one, two = at(server, "one.example"), at(server, "two.example")
        get = tools([one, two], resolve=resolve, headers=[*given])["get"]
        here, there = redirect("/again"), redirect(f"http://{two}/")
        server._plays = (here, there, answer(200, ""))
        await ask(get, url=f"http://{one}/", headers=given)

        said = [(r.headers.get("authorization"), r.headers["accept"]) for r in server.requests]
        assert said == [("Bearer of-one", "text/html")] * 2 + [(None, "text/html")]

    with_server(scenario, answer(200, ""))
