"""The response format as a hint: a field where it is understood, words where it is not."""

from typing import Any

import msgspec
import pytest

from gatebook.kernel.messages import Capabilities, JsonSchemaFormat
from gatebook.providers.chat_wire import request_body, tool_names
from tests.providers.calls import asking

FORM = JsonSchemaFormat("City", msgspec.Raw(b'{"type":"object"}'), strict=False)


def body_for(understood: bool) -> dict[str, Any]:
    """Return what is sent to a server that understands formats, or does not."""
    request = asking("hi", response_format=FORM)
    body: dict[str, Any] = msgspec.json.decode(
        request_body(
            request,
            tool_names(request),
            capabilities=Capabilities(json_schema=understood),
            max_tokens_field="max_tokens",
            stream=False,
        )
    )
    return body


@pytest.mark.parametrize("understood", [True, False])
def test_a_format_is_sent_only_where_it_is_understood(understood: bool) -> None:
    """Some servers refuse a call for a field they do not know."""
    assert ("response_format" in body_for(understood)) is understood


def test_where_it_is_not_the_model_is_told_in_words() -> None:
    """Else its first answer would be a guess, and a repair would have to show the schema."""
    messages = body_for(False)["messages"]

    assert messages[0] == {"role": "user", "content": "hi"}
    assert messages[1]["role"] == "system"
    assert messages[1]["content"].endswith('{"type":"object"}')
