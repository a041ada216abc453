"""OpenAI's Responses API through the official SDK, which does the HTTP and nothing else.

The SDK's retries are off and its event objects are not made: they cost more than all the rest
of a stream. The wire format is `responses_wire` and `responses_stream`.
"""

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec

from gatebook.kernel.classify import request_id
from gatebook.kernel.messages import Call, Capabilities, ChatRequest, ChatResponse, StreamEvent
from gatebook.providers.chat_wire import tool_names
from gatebook.providers.clients import Clients
from gatebook.providers.responses_stream import ResponsesConverter
from gatebook.providers.responses_wire import request_body
from gatebook.providers.sdk import (
    Opened,
    SdkStream,
    completed,
    http_client,
    require_extra,
    vendor_key,
)
from gatebook.providers.sdk_sse import opened_sse
from gatebook.providers.transport import ApiKey, checked_url, connect_limit, host_of, whole_body

if TYPE_CHECKING:
    import httpx2

BASE_URL = "https://api.openai.com/v1"
KEY_VARIABLE = "OPENAI_API_KEY"
INSTEAD = "or use the route openai-chat:, which needs no package"


class OpenAIResponses:
    """A provider behind `base_url`/responses, OpenAI's own or one that speaks like it.

    The key may be a function, asked before every request, so that it can be rotated. It is never
    shown: not in `repr`, not in errors, even when the server repeats it.
    """

    capabilities = Capabilities(terminal="event")

    def __init__(
        self,
        api_key: ApiKey = None,
        *,
        base_url: str | None = None,
        name: str = "openai",
        max_connections: int = 100,
    ) -> None:
        """Describe an endpoint; nothing is imported or opened before the first call.

        Args:
            api_key: None for the one in OPENAI_API_KEY, or, with a `base_url`, for none.

        Raises:
            ConfigError: E_EXTRA_MISSING, E_KEY_MISSING, or E_CONFIG: the base URL is none.
        """
        require_extra("openai", "openai", instead=INSTEAD)
        self.base_url = BASE_URL if base_url is None else checked_url(base_url)
        self._host = host_of(self.base_url)
        self.name = name
        self.max_connections = max_connections
        self._api_key = vendor_key(api_key, KEY_VARIABLE, base_url=base_url, provider=name)
        self._clients: Clients[Any] = Clients("openai", self._client, lambda made: made.close())

    def __repr__(self) -> str:
        """Show the endpoint, never the key."""
        return f"OpenAIResponses({self.base_url!r}, name={self.name!r})"

    def stream(self, request: ChatRequest, call: Call) -> SdkStream:
        """Return one streamed attempt: `async with` it, then iterate. Raises ProviderError only."""

        async def send(key: str) -> Opened:
            names = tool_names(request)
            body = request_body(request, names, stream=True)
            response = await self._post(body, request, call, key)
            served_as = request_id(response.headers)
            answer = ResponsesConverter(names, request_id=served_as)
            return opened_sse(response, answer, request_id=served_as)

        return SdkStream(
            send, request.timeouts, self._api_key, ready=self._clients.get, host=self._host
        )

    async def complete(self, request: ChatRequest, call: Call) -> ChatResponse:
        """Make one blocking attempt. Raises ProviderError only."""

        async def ask(key: str) -> list[StreamEvent]:
            names = tool_names(request)
            body = request_body(request, names, stream=False)
            response = await self._post(body, request, call, key)
            deadline = asyncio.get_running_loop().time() + request.timeouts.total_ms / 1000
            told = await whole_body(response, deadline)
            answer = ResponsesConverter(names, request_id=request_id(response.headers))
            return answer.whole(told)

        return await completed(
            ask, request, self._api_key, ready=self._clients.get, host=self._host
        )

    async def aclose(self) -> None:
        """Close the connections of the running loop; the provider can be used again."""
        await self._clients.aclose()

    def _client(self, openai: Any) -> Any:
        return openai.AsyncOpenAI(
            api_key="sent with each request",
            base_url=self.base_url,
            max_retries=0,
            http_client=http_client(self.max_connections),
        )

    async def _post(
        self, body: dict[str, Any], request: ChatRequest, call: Call, key: str
    ) -> "httpx2.Response":
        """Send the request and return the SDK's response, its body unread."""
        import httpx2

        client = await self._clients.get()
        import openai

        stream = "stream" in body
        headers: dict[str, Any] = {
            "Accept": "text/event-stream" if stream else "application/json",
            "Authorization": f"Bearer {key}" if key else openai.Omit(),
            "Idempotency-Key": call.idempotency_key,
        }
        if stream:
            headers["Accept-Encoding"] = "identity"  # a compressor would hold deltas back
        response: httpx2.Response = await client.post(
            "/responses",
            cast_to=httpx2.Response,
            content=msgspec.json.encode(body),
            options={"headers": headers, "timeout": connect_limit(request.timeouts)},
            stream=True,
            stream_cls=openai.AsyncStream[Any],
        )
        return response
