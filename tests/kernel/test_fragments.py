"""Tool-call fragments: every way servers lose an index, an id or a name, and what comes of it."""

from typing import Any

import pytest

from gatebook.kernel.messages import MessageEnd
from gatebook.kernel.streams.fragments import ToolCallAssembly
from gatebook.kernel.streams.machine import StreamMachine


def calls(*fragments: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return (id, name, arguments) of the runnable calls that the fragments add up to."""
    return [(c.id, c.name, c.arguments) for c in answer(*fragments).tool_calls]


def answer(*fragments: dict[str, Any]) -> Any:
    assembly, machine = ToolCallAssembly("resp"), StreamMachine()
    machine.open()
    for fragment in fragments:
        full = {"index": None, "id": None, "name": None, "arguments": "", **fragment}
        for event in assembly.add(**full):
            machine.feed(event)
    for event in assembly.close():
        machine.feed(event)
    machine.feed(MessageEnd("tool_calls"))
    return machine.response


def test_interleaved_calls_are_told_apart_by_index() -> None:
    """This is what the protocol says."""
    got = calls(
        {"index": 0, "id": "a", "name": "f"},
        {"index": 1, "id": "b", "name": "g"},
        {"index": 0, "arguments": '{"x":'},
        {"index": 1, "arguments": "{}"},
        {"index": 0, "arguments": "1}"},
    )

    assert got == [("a", "f", '{"x":1}'), ("b", "g", "{}")]


def test_without_index_an_id_begins_a_call() -> None:
    """Some servers leave the index out."""
    got = calls(
        {"id": "a", "name": "f", "arguments": '{"x":'},
        {"arguments": "1}"},
        {"id": "b", "name": "f", "arguments": "{}"},
    )

    assert got == [("a", "f", '{"x":1}'), ("b", "f", "{}")]


def test_one_index_for_all_calls_is_split_by_id() -> None:
    """Others send index 0 for every call."""
    got = calls(
        {"index": 0, "id": "a", "name": "f", "arguments": '{"x":1}'},
        {"index": 0, "id": "b", "name": "f", "arguments": '{"x":'},
        {"index": 0, "arguments": "2}"},
    )

    assert got == [("a", "f", '{"x":1}'), ("b", "f", '{"x":2}')]


def test_an_index_that_shifts_inside_a_call_goes_on_with_it() -> None:
    """A fragment that neither names nor identifies a call cannot begin one."""
    got = calls(
        {"index": 0, "id": "a", "name": "f", "arguments": "{"},
        {"index": 1, "arguments": '"x":1'},
        {"index": 2, "arguments": "}"},
    )

    assert got == [("a", "f", '{"x":1}')]


def test_a_shifting_index_with_the_same_id_goes_on_with_the_call() -> None:
    """The id is the better witness."""
    got = calls(
        {"index": 0, "id": "a", "name": "f", "arguments": "{"},
        {"index": 1, "id": "a", "arguments": "}"},
    )

    assert got == [("a", "f", "{}")]


def test_a_name_is_set_once() -> None:
    """Mistral-shaped servers repeat the name as an empty string, others in full."""
    got = calls(
        {"index": 0, "id": "a", "name": "f"},
        {"index": 0, "name": "", "arguments": "{"},
        {"index": 0, "name": "f", "arguments": "}"},
    )

    assert got == [("a", "f", "{}")]


def test_whole_calls_without_id_or_index_are_separate() -> None:
    """Joined, their arguments would be no JSON and both would be lost."""
    got = calls({"name": "f", "arguments": '{"x":1}'}, {"name": "f", "arguments": '{"x":2}'})

    assert [(name, arguments) for _, name, arguments in got] == [
        ("f", '{"x":1}'),
        ("f", '{"x":2}'),
    ]
    assert len({id for id, _, _ in got}) == 2


def test_a_made_up_id_is_the_same_every_time_and_differs_between_answers() -> None:
    """A conversation with two calls of one id is refused, and a replay must not differ."""
    fragment = {"index": None, "id": "", "name": "f", "arguments": "{}"}

    first, again = (ToolCallAssembly("r1").add(**fragment) for _ in range(2))  # type: ignore[arg-type]
    other = ToolCallAssembly("r2").add(**fragment)  # type: ignore[arg-type]

    assert first == again
    assert first != other


def test_a_repeated_id_for_two_indexes_keeps_both_calls() -> None:
    """Two results with one id would answer the wrong call."""
    got = calls(
        {"index": 0, "id": "a", "name": "f", "arguments": '{"x":1}'},
        {"index": 1, "id": "a", "name": "f", "arguments": '{"x":2}'},
    )

    assert [arguments for _, _, arguments in got] == ['{"x":1}', '{"x":2}']
    assert got[0][0] != got[1][0]


@pytest.mark.parametrize(
    "key",
    [{}, {"index": 0}, {"id": "a"}, {"index": 0, "id": "a"}],
    ids=["nothing", "index", "id", "both"],
)
def test_another_name_begins_another_call(key: dict[str, Any]) -> None:
    """Taken for one call, the first tool would run with the arguments of the second."""
    got = calls({**key, "name": "f"}, {**key, "name": "g"}, {**key, "arguments": '{"x":1}'})

    assert [(name, arguments) for _, name, arguments in got] == [("f", "{}"), ("g", '{"x":1}')]
    assert got[0][0] != got[1][0]


def test_another_name_under_a_repeated_id_keeps_its_own_index() -> None:
    """The arguments of both come by index; the id says nothing here."""
    got = calls(
        {"index": 0, "id": "a", "name": "f"},
        {"index": 1, "id": "a", "name": "g"},
        {"index": 0, "arguments": '{"x":1}'},
        {"index": 1, "arguments": '{"x":2}'},
    )

    assert [(name, arguments) for _, name, arguments in got] == [
        ("f", '{"x":1}'),
        ("g", '{"x":2}'),
    ]


def test_a_late_name_starts_the_call_with_what_was_held() -> None:
    """Arguments that came first belong to the call all the same."""
    got = calls(
        {"index": 0, "id": "a", "arguments": '{"x":'},
        {"index": 0, "name": "f", "arguments": "1}"},
    )

    assert got == [("a", "f", '{"x":1}')]


def test_a_late_id_belongs_to_the_call_at_its_index() -> None:
    """Split in two, the first half would run without its arguments."""
    got = calls(
        {"index": 0, "name": "f"},
        {"index": 0, "id": "a", "arguments": '{"x":'},
        {"index": 1, "id": "a", "arguments": "1}"},
    )

    assert [(name, arguments) for _, name, arguments in got] == [("f", '{"x":1}')]


def test_an_id_of_its_own_makes_no_fragment_a_call() -> None:
    """Taken for one, the call would run without its arguments."""
    got = calls(
        {"index": 0, "id": "a", "name": "f"},
        {"index": 0, "id": "b", "arguments": '{"x":'},
        {"index": 0, "id": "c", "arguments": "1}"},
        {"index": 0, "id": "d"},
    )

    assert got == [("a", "f", '{"x":1}')]


def test_a_call_whose_name_never_comes_is_reported_and_not_run() -> None:
    """Dropped silently, the model's wish would just be gone."""
    response = answer({"index": 0, "id": "a", "arguments": "{}"})

    assert response.tool_calls == ()
    assert response.invalid_tool_calls[0].reason == "no_name"


def test_a_trailing_empty_fragment_begins_nothing() -> None:
    """A spurious second call would run a tool twice."""
    got = calls(
        {"index": 0, "id": "a", "name": "f", "arguments": '{"x":1}'},
        {"index": 0, "id": "a", "name": "f", "arguments": ""},
        {"index": 0, "name": "f", "arguments": ""},
    )

    assert got == [("a", "f", '{"x":1}')]


def test_provider_data_stays_with_its_call() -> None:
    """Gemini refuses a call that comes back without its thought signature."""
    response = answer({"id": "a", "name": "f", "arguments": "{}", "provider_data": '{"s":1}'})

    assert response.tool_calls[0].provider_data == '{"s":1}'
