"""Google's Gemini API through the official SDK, which makes the requests; answers are read here.

The SDK's retries are off. The wire format is `google_wire` and `google_stream`; how an answer is
kept from the SDK's own reader is `google_http`.
"""

import asyncio
from typing import TYPE_CHECKING, Any

from gatebook.kernel.classify import malformed, request_id
from gatebook.kernel.messages import Call, Capabilities, ChatRequest, ChatResponse, StreamEvent
from gatebook.providers.clients import Clients
from gatebook.providers.google_stream import GoogleConverter
from gatebook.providers.google_wire import wire_request
from gatebook.providers.sdk import (
    Opened,
    SdkStream,
    completed,
    require_extra,
    vendor_key,
)
from gatebook.providers.sdk_sse import opened_sse
from gatebook.providers.transport import ApiKey, checked_url, host_of, refusal_of, whole_body

if TYPE_CHECKING:
    import httpx2

    from gatebook.providers.google_http import GoogleClient

BASE_URL = "https://generativelanguage.googleapis.com"
KEY_VARIABLES = ("GOOGLE_API_KEY", "GEMINI_API_KEY")  # in the order the SDK looks


class Google:
    """Gemini models, by their names in Google AI Studio.

    The key may be a function, asked before every request, so that it can be rotated. It is never
    shown: not in `repr`, not in errors, even when the server repeats it.
    """

    capabilities = Capabilities()

    def __init__(
        self,
        api_key: ApiKey = None,
        *,
        base_url: str | None = None,
        name: str = "google",
        max_connections: int = 100,
    ) -> None:
        """Describe an endpoint; nothing is imported or opened before the first call.

        Args:
            api_key: None for the one in GOOGLE_API_KEY or GEMINI_API_KEY, or, with a
                `base_url`, for none.
            base_url: without the API version, which the SDK adds.

        Raises:
            ConfigError: E_EXTRA_MISSING, E_KEY_MISSING, or E_CONFIG: the base URL is none.
        """
        require_extra("google.genai", "google")
        self.base_url = BASE_URL if base_url is None else checked_url(base_url)
        self._host = host_of(self.base_url)
        self.name = name
        self.max_connections = max_connections
        self._api_key = vendor_key(api_key, *KEY_VARIABLES, base_url=base_url, provider=name)
        self._clients: Clients[GoogleClient] = Clients(
            "gatebook.providers.google_http", self._client, lambda made: made.aclose()
        )

    def __repr__(self) -> str:
        """Show the endpoint, never the key."""
        return f"Google(base_url={self.base_url!r}, name={self.name!r})"

    def stream(self, request: ChatRequest, call: Call) -> SdkStream:
        """Return one streamed attempt: `async with` it, then iterate. Raises ProviderError only."""

        async def send(key: str) -> Opened:
            response, answer = await self._ask(request, call, key, stream=True)
            return opened_sse(response, answer, request_id=answer.request_id)

        return SdkStream(
            send, request.timeouts, self._api_key, ready=self._clients.get, host=self._host
        )

    async def complete(self, request: ChatRequest, call: Call) -> ChatResponse:
        """Make one blocking attempt. Raises ProviderError only."""

        async def ask(key: str) -> list[StreamEvent]:
            response, answer = await self._ask(request, call, key, stream=False)
            deadline = asyncio.get_running_loop().time() + request.timeouts.total_ms / 1000
            told = await whole_body(response, deadline)
            events = list(answer.read(told))
            if not answer.finished:
                raise malformed(
                    "the answer has no finished candidate", request_id=answer.request_id
                )
            return [*events, *answer.end()]

        return await completed(
            ask, request, self._api_key, ready=self._clients.get, host=self._host
        )

    async def aclose(self) -> None:
        """Close the connections of the running loop; the provider can be used again."""
        await self._clients.aclose()

    def _client(self, google_http: Any) -> "GoogleClient":
        made: GoogleClient = google_http.GoogleClient(self.base_url, self.max_connections)
        return made

    async def _ask(
        self, request: ChatRequest, call: Call, key: str, *, stream: bool
    ) -> "tuple[httpx2.Response, GoogleConverter]":
        """Send the request; return its 200 unread, and what reads it. Anything else is raised."""
        wire = wire_request(request)
        headers = {
            "accept": "text/event-stream" if stream else "application/json",
            "idempotency-key": call.idempotency_key,
        }
        if stream:
            headers["accept-encoding"] = "identity"  # a compressor would hold deltas back
        if key:
            headers["x-goog-api-key"] = key
        client = await self._clients.get()
        response = await client.ask(request.model, wire, headers, request.timeouts, stream=stream)
        if response.status_code != 200:
            raise await refusal_of(response)
        served_as = request_id(response.headers)
        return response, GoogleConverter(wire.names, request_id=served_as)
