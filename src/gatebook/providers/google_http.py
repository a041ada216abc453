"""How a request of the google-genai SDK reaches the network, and its answer does not reach the SDK.

The SDK makes the request; its HTTP client is ours and keeps the answer. The SDK's own reader
takes comments for errors, a clean end for the end of an answer, and a body that is no JSON for
None. Imports the SDK, so it is itself imported at the first call only.
"""

from contextvars import ContextVar
from typing import Any

import httpx2
from google import genai
from google.genai import types

from gatebook.kernel.classify import MESSAGE_CHARS
from gatebook.kernel.messages import Timeouts
from gatebook.providers.chat_wire import refused
from gatebook.providers.google_wire import Wire
from gatebook.providers.transport import close_within, pool

KEY_HEADER = "x-goog-api-key"
UNSET = "sent with each request"  # the SDK wants some key before it makes a client


class _Exchange:
    """What one request is to carry, and the answer to it once it has come."""

    def __init__(self, headers: dict[str, str], timeouts: Timeouts) -> None:
        self.headers = headers
        self.connect_s = timeouts.connect_ms / 1000
        self.sent = False
        self.response: httpx2.Response | None = None


_exchange: ContextVar[_Exchange] = ContextVar("gatebook_google_exchange")


class _KeepingClient(httpx2.AsyncClient):
    """Sends what the SDK gives it and keeps the answer; the SDK gets an empty one."""

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        exchange = _exchange.get()
        if exchange.sent:
            raise RuntimeError("the google-genai SDK wants a second request for one attempt")
        exchange.sent = True
        request.headers.pop(KEY_HEADER, None)
        request.headers.update(exchange.headers)
        # Reading is bounded where it happens; the SDK's timeout has no part for connecting.
        connect_s = exchange.connect_s
        limits = {"connect": connect_s, "pool": connect_s, "read": None, "write": None}
        request.extensions = {**request.extensions, "timeout": limits}
        options["stream"] = True
        exchange.response = await super().send(request, **options)
        return httpx2.Response(200, request=request)


class GoogleClient:
    """The SDK's client of one event loop."""

    def __init__(self, base_url: str, max_connections: int) -> None:
        """Set up without connecting: no retries, no redirects, no surroundings that change it."""
        context = httpx2.create_ssl_context()
        self._http = _KeepingClient(
            limits=pool(max_connections), follow_redirects=False, verify=context
        )
        options = types.HttpOptions(
            base_url=base_url,
            httpx_async_client=self._http,
            # For clients that are not used: a context of their own takes the SDK 35 ms each.
            client_args={"verify": context},
            async_client_args={"ssl": context},
            retry_options=types.HttpRetryOptions(attempts=1),
        )
        self._models = genai.Client(vertexai=False, api_key=UNSET, http_options=options).aio.models

    async def ask(
        self, model: str, wire: Wire, headers: dict[str, str], timeouts: Timeouts, *, stream: bool
    ) -> httpx2.Response:
        """Send a request and return the response to it, whatever its status, its body unread.

        Raises:
            ProviderError: permanent: the SDK does not take the request.
            Exception: anything a connection may raise; nothing is left open then.
        """
        exchange = _Exchange(headers, timeouts)
        token = _exchange.set(exchange)
        asked: dict[str, Any] = {"model": model, "contents": wire.contents, "config": wire.config}
        try:
            if stream:
                async for _ in await self._models.generate_content_stream(**asked):
                    pass
            else:
                await self._models.generate_content(**asked)
        except BaseException as exc:
            if exchange.response is not None:
                await close_within(exchange.response.aclose())
            if isinstance(exc, Exception) and not exchange.sent:
                told = f"{type(exc).__name__}: {exc}"[:MESSAGE_CHARS]
                raise refused(f"the google-genai SDK does not take the request: {told}") from exc
            raise
        finally:
            _exchange.reset(token)
        if exchange.response is None:
            raise RuntimeError("the google-genai SDK sent no request")
        return exchange.response

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()
