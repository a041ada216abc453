"""What is bound to one provider: named as its own, and sent to no other."""

from gatebook.kernel.messages import ChatResponse, Message, TextPart, ThinkingPart, ToolCallPart
from gatebook.kernel.origins import bound, sendable

THOUGHT = ThinkingPart("hm", signature="s1g")
CALL = ToolCallPart("1", "look", "{}", provider_data='{"id":"fc_1"}')


def test_opaque_parts_of_an_answer_name_their_provider() -> None:
    """Plain text and calls belong to nobody."""
    plain_call = ToolCallPart("2", "look")
    message = Message("assistant", (THOUGHT, TextPart("so"), CALL, plain_call, ThinkingPart("x")))
    answer = ChatResponse(model="m", message=message, finish_reason="stop")

    found = bound(answer, "a").message.content

    assert [getattr(part, "origin", None) for part in found] == ["a", None, "a", "", ""]


def test_another_provider_is_not_sent_what_is_bound() -> None:
    """Thoughts are left out, calls lose their data; an answer of thoughts alone is no message."""
    ours = ThinkingPart("hm", signature="s1g", origin="a")
    called = ToolCallPart("1", "look", "{}", provider_data="{}", origin="a")
    talk = [
        Message.user("q"),
        Message("assistant", (ours, TextPart("so"), called)),
        Message("assistant", (ours,)),
    ]

    assert sendable(talk, "a") == tuple(talk)
    assert sendable(talk, "b") == (
        Message.user("q"),
        Message("assistant", (TextPart("so"), ToolCallPart("1", "look", "{}"))),
    )
