"""Whether a model's answer may be used: cut, filtered and refused answers are errors."""

from gatebook.errors import Permanent, writable
from gatebook.kernel.messages import ChatResponse, RefusalPart

CODES = {
    "content_filter": "E_ANSWER_FILTERED",
    "refusal": "E_ANSWER_REFUSED",
    "error": "E_ANSWER_INCOMPLETE",
}


def unusable(response: ChatResponse) -> Permanent | None:
    """Return the error an answer amounts to, or None when it may be used.

    Calls that came whole before a length limit may be used; after a filter, a refusal or a
    provider's error nothing of the answer counts. The error's `fields["partial"]` has the text.
    """
    code = CODES.get(response.finish_reason)
    refusals = [part.text for part in response.message.content if isinstance(part, RefusalPart)]
    if code is None and refusals and not response.text:
        code = "E_ANSWER_REFUSED"
    if code is None and response.state == "interrupted":
        code = "E_ANSWER_INCOMPLETE"
    cut = response.finish_reason == "length" or response.state == "incomplete"
    if code is None and cut and not (response.tool_calls or response.invalid_tool_calls):
        code = "E_ANSWER_INCOMPLETE"
    if code is None:
        return None
    detail = refusals[0] if refusals else response.raw_finish_reason or response.finish_reason
    error = Permanent("", code=code, detail=detail)
    error.message = str(error)
    error.fields["partial"] = writable(response.text)
    return error
