"""Whether a model's answer may be used, and what the model is told of one that does not fit.

Cut, filtered and refused answers are errors, never asked for again: the same question would end
the same way.
"""

from collections.abc import Sequence

from gatebook.errors import Permanent, writable
from gatebook.kernel.codec import canonical
from gatebook.kernel.messages import ChatResponse, RefusalPart
from gatebook.programs.outputs import Output
from gatebook.programs.problems import Problem, told

MAX_REPAIRS = 2  # further calls for one answer that does not fit
MAX_SHOWN_SCHEMA = 4_096  # bytes; a larger schema is not written into a repair

CODES = {
    "content_filter": "E_ANSWER_FILTERED",
    "refusal": "E_ANSWER_REFUSED",
    "error": "E_ANSWER_INCOMPLETE",
}


def unusable(response: ChatResponse, *, whole: bool = False) -> Permanent | None:
    """Return the error an answer amounts to, or None when it may be used.

    `whole`: a turn that the provider paused is no answer either.

    Calls that came whole before a length limit may be used; after a filter, a refusal or a
    provider's error nothing of the answer counts. The error's `fields["partial"]` has the text.
    """
    code = CODES.get(response.finish_reason)
    refusals = [part.text for part in response.message.content if isinstance(part, RefusalPart)]
    if code is None and refusals and not response.text:
        code = "E_ANSWER_REFUSED"
    paused = whole and response.state == "suspended"
    if code is None and (paused or response.state == "interrupted"):
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


def repair(problems: Sequence[Problem], number: int, output: Output[object]) -> str:
    """Return what a model is told of an answer that does not fit: what is wrong, not what it said.

    The first time with the schema as well, for servers that do not pass it on.
    """
    lines = [
        "Your answer was not accepted, because it does not fit the JSON that was asked for:",
        *(f"- {problem}" for problem in problems),
        "Answer again with one JSON value that fits, and nothing else: no words, no Markdown.",
    ]
    schema = canonical(output.format["schema"]) if output.format else b""
    if number == 1 and 0 < len(schema) <= MAX_SHOWN_SCHEMA:
        lines.append(f"Its JSON Schema is: {schema.decode()}")
    return "\n".join(lines)


def unfit(problems: Sequence[Problem], repairs: int) -> Permanent:
    """Return the error for an answer that does not fit and is not asked for again.

    Its `fields["problems"]` has the last problems, as {"path", "text"}.
    """
    error = Permanent(
        "",
        code="E_ANSWER_UNFIT",
        count=repairs,
        detail=told(problems),
        problems=[problem._asdict() for problem in problems],
    )
    error.message = str(error)
    return error
