"""Redaction of text that comes in pieces: no secret passes, and nothing else is changed or lost."""

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatebook.kernel.messages import (
    MessageEnd,
    MessageStart,
    RefusalDelta,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    ToolCallEnd,
    ToolCallStart,
)
from gatebook.kernel.redact import PATTERNS, Redactor
from gatebook.kernel.streams.holdback import LONG, Holdback
from tests.kernel.test_redact import SAMPLES

SECRET = "canary-7f3e91d2b4"
END = MessageEnd("stop", "stop", None)


def passed(redactor: Redactor, *pieces: str) -> list[str]:
    """What a reader sees of a text, piece by piece, and at the end."""
    holdback = Holdback(redactor)
    shown = []
    for piece in pieces:
        shown.append(texts(holdback.feed(TextDelta(0, piece))))
    return [*shown, texts(holdback.end())]


def texts(events: tuple[StreamEvent, ...]) -> str:
    """The text of some events."""
    return "".join(event.text for event in events if isinstance(event, TextDelta))


@pytest.mark.parametrize(
    ("kind", "sample"), [(k, s) for k, found in SAMPLES.items() for s in found]
)
@pytest.mark.parametrize("around", ["{}", "it is {} or so", "(risk-{},)", "a{}", "{}{}"])
def test_a_secret_is_cut_wherever_its_pieces_are_cut(kind: str, sample: str, around: str) -> None:
    """A model's tokens do not end where a secret does."""
    del kind
    redactor, whole = Redactor([SECRET]), around.replace("{}", sample)

    for cut in range(len(whole) + 1):
        assert "".join(passed(redactor, whole[:cut], whole[cut:])) == redactor.text(whole)
    assert "".join(passed(redactor, *whole)) == redactor.text(whole)


@pytest.mark.parametrize("kind", sorted(PATTERNS))
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_every_secret_a_pattern_finds_is_found_in_pieces(kind: str, data: st.DataObject) -> None:
    """What a pattern may begin with is written down by hand: it must keep up."""
    secret = data.draw(st.from_regex(PATTERNS[kind], fullmatch=True))
    whole = (
        data.draw(st.sampled_from(["", " ", "x", "-", "sk-"]))
        + secret
        + data.draw(st.sampled_from(["", " and more", ".", "-----", "a"]))
    )
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=5)))
    pieces = [whole[a:b] for a, b in itertools.pairwise([0, *cuts, len(whole)])]
    redactor = Redactor()

    assert "".join(passed(redactor, *pieces)) == redactor.text(whole)


def test_random_pieces_of_random_words_add_up() -> None:
    """Near misses, secrets in secrets and one after another: the sum is what is recorded."""
    dice = random.Random(7)
    redactor = Redactor([SECRET, SECRET + "-long", "sk-registered", "geheim\nwort"])
    bits = [
        SECRET, SECRET[:9], "-long", "sk-", "sk-registered", "geheim", "\n", "wort", "eyJ",
        "a" * 20, "AKIA", "A1" * 8, "-----BEGIN PRIVATE KEY-----", "-----", "END ", ".", " ", "x",
        "ghp_", "naïve",
    ]  # fmt: skip
    for _ in range(3_000):
        whole = "".join(dice.choices(bits, k=dice.randrange(1, 9)))
        cuts = sorted(dice.choices(range(len(whole) + 1), k=dice.randrange(6)))
        pieces = [whole[a:b] for a, b in itertools.pairwise([0, *cuts, len(whole)])]

        assert "".join(passed(redactor, *pieces)) == redactor.text(whole), pieces


@pytest.mark.parametrize(
    ("pieces", "want"),
    [
        (["it is can", "ary-7f3e", "91d2b4."], ["it is ", "", "[redacted:registered].", ""]),
        (["it is can", "dy"], ["it is ", "candy", ""]),
        (["a canary", "!"], ["a ", "canary!", ""]),
        (["sky", "-high"], ["sky", "-high", ""]),
        (["words", " risk"], ["words", " risk", ""]),  # no word ends in the beginning of a key
        (["can"], ["", "can"]),
    ],
)
def test_no_more_is_held_back_than_may_be_a_secret(pieces: list[str], want: list[str]) -> None:
    """A reader sees the answer grow; only what may be a secret comes later."""
    assert passed(Redactor([SECRET]), *pieces) == want


def test_a_block_ends_what_is_held_back() -> None:
    """Blocks are recorded one by one, so what one of them holds is settled when the next begins."""
    holdback = Holdback(Redactor([SECRET]))
    events: list[StreamEvent] = [
        MessageStart("m", SECRET), ThinkingDelta(0, "can"), TextDelta(0, "canary"),
        TextDelta(1, "can"), ToolCallStart(0, "1", SECRET), ToolCallDelta(0, '{"a":"canary'),
        ToolCallStart(1, "2", "t"), ToolCallDelta(1, "can"), ToolCallDelta(0, '-7f3e91d2b4"}'),
        ToolCallDelta(1, "dy"), ToolCallEnd(0, "1", "t", f'{{"a":"{SECRET}"}}'),
        RefusalDelta(0, "can"), END,
    ]  # fmt: skip

    assert [holdback.feed(event) for event in events] == [
        (MessageStart("m", "[redacted:registered]"),),
        (),
        (ThinkingDelta(0, "can"),),
        (TextDelta(0, "canary"),),
        (TextDelta(1, "can"), ToolCallStart(0, "1", "[redacted:registered]")),
        (ToolCallDelta(0, '{"a":"'),),
        (ToolCallStart(1, "2", "t"),),
        (),
        (ToolCallDelta(0, '[redacted:registered]"}'),),
        (ToolCallDelta(1, "candy"),),
        (ToolCallEnd(0, "1", "t", '{"a":"[redacted:registered]"}'),),
        (),
        (RefusalDelta(0, "can"), END),
    ]


def test_a_signature_passes_with_its_thought() -> None:
    """Providers close a block of thinking with a delta that has no text."""
    holdback = Holdback(Redactor())

    shown = [
        *holdback.feed(ThinkingDelta(0, "hm")),
        *holdback.feed(ThinkingDelta(0, "", "signed")),
    ]

    assert shown == [ThinkingDelta(0, "hm"), ThinkingDelta(0, "", "signed")]


def test_a_long_token_is_held_and_cut_whole() -> None:
    """A key block of any length is one secret; looking at it must not cost its square."""
    pieces = ["-----BEGIN PRIVATE KEY-----", *["Ab3+/\n"] * (4 * LONG), ", the end"]

    shown = passed(Redactor(), *pieces)

    assert "".join(shown) == "[redacted:private-key], the end"


@pytest.mark.parametrize(
    "text",
    ["-eyJ" * 400_000 + ".!", "-sk-" * 400_000 + "!", "-AIza" * 100_000],
    ids=["parts of a JWT", "keys", "one key after another"],
)
def test_a_text_of_nothing_but_beginnings_holds_no_reader_up(text: str) -> None:
    """A model repeats what it has read, and its worker has other runs to drive."""
    redactor = Redactor([SECRET])

    assert "".join(passed(redactor, text, " ", SECRET)) == redactor.text(f"{text} {SECRET}")
