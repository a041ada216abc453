"""The response format as a hint: sent where it is understood, left out where it is not."""

from typing import Any

import msgspec
import pytest

from gatebook.kernel.messages import Capabilities, JsonSchemaFormat
from gatebook.providers.chat_wire import request_body, tool_names
from tests.providers.calls import asking

FORM = JsonSchemaFormat("City", msgspec.Raw(b'{"type":"object"}'), strict=False)


@pytest.mark.parametrize("understood", [True, False])
def test_a_format_is_sent_only_where_it_is_understood(understood: bool) -> None:
    """Some servers refuse a call for a field they do not know."""
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

    assert ("response_format" in body) is understood
