"""Artifacts: what a model reads of a result that is too long for it, by rules that never change."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatebook.errors import InvalidInput
from gatebook.kernel.artifacts import Artifact, artifact_of, beginning
from gatebook.kernel.codec import Raw, canonical, plain
from gatebook.kernel.events import ActionSucceeded
from gatebook.kernel.history import find_artifact


def shown(value: Any, limit: int) -> str:
    """What a model reads of a value, without the line that says so."""
    output = canonical(value)
    text, _, notice = beginning(output, artifact_of(output, limit=limit)).rpartition("\n")
    assert notice.startswith("[too long: ")
    return text


def test_an_artifact_is_named_by_its_content() -> None:
    """Equal results have equal names, wherever they are kept."""
    found = artifact_of(b'"abc"', limit=3)

    assert found == Artifact(
        "6cc43f858fbb763301637b5af970e2a46b46f461f27e5a0f41e009c59b827b25", 5, 3
    )


def test_what_a_model_reads_is_pinned() -> None:
    """Another cut would be another prompt, and every run that holds one would diverge."""
    output = canonical({"code": 0, "out": "o" * 400, "note": "short", "err": "e" * 300})

    text = beginning(output, artifact_of(output, limit=200))

    assert text == (
        '{"code":0,"err":"' + "e" * 78 + '","note":"short","out":"' + "o" * 79 + '"}\n'
        "[too long: this is the beginning, at most 200 of 743 bytes; the whole is kept as "
        "artifact b52082cdfdf7ff266d483a25834faa4dd1c0aa3d15d7e38da15aa83d40954f8c]"
    )


def test_a_text_is_cut_at_its_end() -> None:
    """Most long results are texts, and a text needs no quotes."""
    assert shown("abcdefgh", 3) == "abc"


def test_a_cut_leaves_no_half_a_character() -> None:
    """Half a character is no text."""
    assert shown("aéé", 4) == "aé"


def test_each_long_text_of_an_object_keeps_its_beginning() -> None:
    """What a program wrote first to one stream must not hide the other."""
    found = plain(shown({"err": "e" * 5_000, "exit": 1, "out": "o" * 5_000}, 1_000).encode())

    assert found["exit"] == 1
    assert len(found["err"]) > 400
    assert len(found["out"]) > 400


def test_a_shorter_text_leaves_its_room_to_a_longer_one() -> None:
    """Half of the room would be wasted otherwise."""
    found = plain(shown({"err": "e" * 300, "out": "o" * 5_000}, 1_000).encode())

    assert found["err"] == "e" * 300
    assert len(found["out"]) > 600


def test_characters_that_json_spells_out_count_as_written() -> None:
    """A limit in bytes that six-byte characters can break is none."""
    assert len(shown({"out": "\x00" * 5_000}, 600).encode()) <= 600


def test_json_that_cannot_be_shortened_is_cut_as_text() -> None:
    """Rows of numbers have a beginning as well."""
    assert shown(list(range(1_000)), 10) == "[0,1,2,3,4"
    assert shown({str(n): n for n in range(1_000)}, 10) == '{"0":0,"1"'


@given(
    value=st.recursive(
        st.text() | st.integers(-9, 9) | st.text("a\x00é", min_size=300),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=5), inner),
        max_leaves=8,
    ),
    limit=st.integers(1, 600),
)
def test_a_model_reads_no_more_than_the_limit(value: Any, limit: int) -> None:
    """The limit protects the prompt, whatever a tool returns."""
    assert len(shown(value, limit).encode()) <= limit


def kept(*values: str) -> list[ActionSucceeded]:
    """Outcomes whose results are artifacts."""
    outputs = [canonical(value) for value in values]
    return [
        ActionSucceeded(address=str(i), output=Raw(o), artifact=artifact_of(o, limit=1))
        for i, o in enumerate(outputs)
    ]


def test_an_artifact_is_found_by_a_beginning_of_its_digest() -> None:
    """Nobody types 64 characters."""
    first, second = kept("one", "two")
    assert second.artifact is not None

    assert find_artifact([first, second], second.artifact.digest[:8], run="r") == second.output


@pytest.mark.parametrize("name", ["", "zz", "7"])
def test_a_name_that_fits_no_single_artifact_is_refused(name: str) -> None:
    """The reader is told which there are."""
    outcomes = kept(*(str(n) for n in range(40)))

    with pytest.raises(InvalidInput) as caught:
        find_artifact(outcomes, name, run="r")

    assert caught.value.code == "E_ARTIFACT"
