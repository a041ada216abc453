"""The conformance cases by number, one line each; `case(n)` marks the tests that prove them."""

import pytest

CASES: dict[int, str] = {
    1: "one permanent error is one request",
    2: "N transient errors and then an answer are N + 1 requests",
    3: "exhausted: max_retries + 1 requests, and the last error unchanged",
    4: "the vendor client's own retries are off",
    5: "a retry hint is honoured in every form, and never early",
    6: "a hint of max_delay is waited for, a longer one gives up at once",
    7: "retry-after-ms 0 beside retry-after 1 is one second",
    8: "a hint that makes no sense is no hint",
    9: "Gemini's hint in the body; its daily quota is final",
    10: "a hint on a 500 counts",
    11: "a hint on a 200 does not",
    12: "a back-off keeps its bounds, differs between runs, and is never drawn again",
    13: "quota errors are permanent whatever their status",
    14: "x-should-retry: false is obeyed",
    15: "a 500 that says the context is full is permanent",
    16: "a 502 with an HTML page is a server error",
    17: "503 Loading model, then an answer",
    18: "cancelled before the first attempt: no request",
    19: "cancelled in a back-off: at once, and no further request",
    20: "cancelled while opening: the connection is closed",
    21: "cancelled in mid-stream: the server sees it and frees its slot",
    22: "a consumer that breaks, fails or forgets leaves no connection; 50 cancelled streams",
    23: "cut after the preamble: asked again, and one MessageStart",
    24: "cut after output: failed, never asked again",
    25: "a clean end without the terminal marker is truncated, never complete",
    26: "half an event is no event",
    27: "a 200 that is empty, HTML or an error object is no answer",
    28: "an error event first, after the preamble, in the middle, after the finish",
    29: "an overloaded error inside a stream is transient before output, final after",
    30: "silence before output is asked again, after output fails; pings are silence",
    31: "comments and pings are not shown",
    32: "a finish reason ends a chat stream, [DONE] alone only where it is declared",
    33: "the server is killed in mid-stream",
    34: "tool calls in every way they are streamed",
    35: "a tool call that was cut off never runs",
    36: "a required tool that was not called is no success",
    37: "signatures of thoughts go back as they came",
    38: "usage in inclusive buckets; what was not measured is not zero",
    39: "a typed answer validates; a schema ignored is no success",
    40: "length, refusal, content filter and pause are told apart",
    41: "killed in a back-off or in mid-stream: the restart goes on where it was",
    42: "a budget that is used up ends the retries",
    43: "exceptions are classified by name, whichever client is installed",
    44: "a call that fails names its server, one that nobody answers also what to look at",
}


def case(*numbers: int) -> pytest.MarkDecorator:
    """Mark a test as a proof of these cases."""
    assert set(numbers) <= set(CASES), numbers
    return pytest.mark.case(*numbers)
