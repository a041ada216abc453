"""Changes: what modify rules do to values, and the patches that say so."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatebook.kernel.redact import Redactor
from gatebook.kernel.rules.changes import ChangeError, Operation, apply_changes, plain_json
from gatebook.kernel.rules.document import Change
from gatebook.kernel.rules.facts import MISSING, Request
from gatebook.kernel.rules.match import Rulebook
from tests.kernel.rules.kit import policy, request, rule

SECRET = "sk-ant-" + "a" * 30
ALL = "[redacted:policy]"


def changed(value: Any, *changes: Change) -> tuple[Any, list[tuple[str, str, Any]]]:
    found, patch = apply_changes(changes, value, Redactor())
    return found, [(part.op, part.path, part.value) for part in patch]


@pytest.mark.parametrize(
    ("change", "value", "after", "patch"),
    [
        (Change("set", "args.a", 1), {"a": 2}, {"a": 1}, [("replace", "/a", 1)]),
        (Change("set", "args.a", 1), {}, {"a": 1}, [("add", "/a", 1)]),
        (Change("set", "args.a.b", 1), {}, {"a": {"b": 1}}, [("add", "/a", {"b": 1})]),
        (Change("set", "args.a", 1), {"a": 1}, {"a": 1}, []),
        (Change("set", "args.a", 1), {"a": True}, {"a": 1}, [("replace", "/a", 1)]),
        (Change("set", "args.l.1", 0), {"l": [1, 2]}, {"l": [1, 0]}, [("replace", "/l/1", 0)]),
        (Change("set", "args.a~/b", 1), {"a~/b": 2}, {"a~/b": 1}, [("replace", "/a~0~1b", 1)]),
        (Change("drop", "args.a"), {"a": 1, "b": 2}, {"b": 2}, [("remove", "/a", None)]),
        (Change("drop", "args.a"), {"b": 2}, {"b": 2}, []),
        (Change("redact", "args.a", "all"), {"a": "x"}, {"a": ALL}, [("replace", "/a", ALL)]),
        (Change("redact", "args.a", "all"), {"a": None}, {"a": None}, []),
        (Change("redact", "args.a", "all"), {}, {}, []),
        (Change("redact", "args.a", "secrets"), {"a": f"key {SECRET}!"},
         {"a": "key [redacted:api-key]!"}, [("replace", "/a", "key [redacted:api-key]!")]),
        (Change("redact", "args.a", "secrets"), {"a": {"b": [SECRET, 1]}},
         {"a": {"b": ["[redacted:api-key]", 1]}},
         [("replace", "/a", {"b": ["[redacted:api-key]", 1]})]),
        (Change("redact", "args.a", "secrets"), {"a": "hi"}, {"a": "hi"}, []),
        (Change("redact", "result.l.*.e", "all"), {"l": [{"e": "x"}, {}]},
         {"l": [{"e": ALL}, {}]}, [("replace", "/l/0/e", ALL)]),
        (Change("redact", "result", "all"), "whole", ALL, [("replace", "", ALL)]),
        (Change("set", "model", "small"), {"model": "big"}, {"model": "small"},
         [("replace", "/model", "small")]),
    ],
)  # fmt: skip
def test_a_change_and_its_patch(change: Change, value: Any, after: Any, patch: Any) -> None:
    """The journal holds how something was changed, and the patch must be the whole truth."""
    assert changed(value, change) == (after, patch)


@pytest.mark.parametrize(
    ("change", "value"),
    [
        (Change("set", "args.a.b", 1), {"a": "text"}),
        (Change("set", "args.a.b", 1), {"a": None}),
        (Change("set", "args.l.5", 1), {"l": [1]}),
        (Change("set", "args.l.x", 1), {"l": [1]}),
        (Change("redact", "args.a.b", "all"), {"a": "text"}),
        (Change("drop", "args.l.0"), {"l": [1]}),
        (Change("redact", "args.l.*.b", "all"), {"l": {"1": {"b": "x"}}}),
        (Change("set", "args.l.*", 1), {"l": {}}),
    ],
)
def test_a_change_that_cannot_be_made_is_an_error(change: Change, value: Any) -> None:
    """Going on unchanged would let out what the rule wanted kept in."""
    with pytest.raises(ChangeError):
        changed(value, change)


def test_a_change_that_cannot_be_made_denies() -> None:
    """Failing closed, seen from outside."""
    document = policy(
        rule("a", "allow"), rule("b", "modify", "", 'redact = { "args.a.b" = "all" }')
    )

    ruling = Rulebook(document).decide(request(args={"a": "text"}))

    assert (ruling.verdict, ruling.code) == ("deny", "E_POLICY_ERROR")


VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(0, 3), st.sampled_from(["x", SECRET])),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abl"), inner),
    max_leaves=6,
)
CHANGES = st.lists(
    st.builds(
        lambda kind, path: Change(kind[0], f"args.{path}", kind[1]),
        st.sampled_from([("set", 1), ("drop", None), ("redact", "all"), ("redact", "secrets")]),
        st.sampled_from(["a", "b", "a.b", "l.*", "l.*.a"]),
    ),
    max_size=3,
)


@given(st.dictionaries(st.sampled_from("abl"), VALUES), CHANGES)
def test_a_patch_leads_to_the_new_value(value: dict[str, Any], changes: list[Change]) -> None:
    """Whoever applies the patch to the old bytes must get the new ones."""
    before = plain_json(value)
    try:
        after, patch = apply_changes(changes, value, Redactor())
    except ChangeError:
        return

    assert value == before
    assert applied(value, patch) == after


def applied(value: Any, patch: tuple[Operation, ...]) -> Any:
    """A plain reading of RFC 6902."""
    for part in patch:
        steps = [s.replace("~1", "/").replace("~0", "~") for s in part.path.split("/")[1:]]
        value = _applied(value, steps, part)
    return value


def _applied(value: Any, steps: list[str], part: Operation) -> Any:
    if not steps:
        return part.value
    step: Any = int(steps[0]) if isinstance(value, list) else steps[0]
    copy = list(value) if isinstance(value, list) else dict(value)
    if part.op == "remove" and len(steps) == 1:
        del copy[step]
        return copy
    copy[step] = part.value if len(steps) == 1 else _applied(copy[step], steps[1:], part)
    return copy


def test_decimals_travel_as_text_again() -> None:
    """Arguments are seen as numbers and sent as they came."""
    assert plain_json({"a": [Decimal("1.50"), Decimal("1E+2")]}) == {"a": ["1.50", "100"]}


def test_what_is_not_there_is_not_changed() -> None:
    """A request without arguments stays one."""
    assert changed(MISSING, Change("set", "args.a", 1)) == (MISSING, [])


def test_modified_arguments_are_decided_again() -> None:
    """What runs is what was decided about, to the last byte."""
    document = policy(
        rule("a", "allow", '"args.limit" = { le = 100 }'),
        rule("open", "allow", '"args.limit" = { gt = 100 }'),
        rule("cap", "modify", '"args.limit" = { gt = 100 }', 'set = { "args.limit" = 100 }'),
    )

    settled = Rulebook(document).settle(request(args={"limit": 5_000}))

    assert (settled.verdict, settled.request.args) == ("modify", {"limit": 100})
    assert settled.patch == (Operation("replace", "/limit", 100),)


def test_a_change_cannot_make_an_ask_go_away() -> None:
    """Adding a modify rule must never widen what runs without a person."""
    document = policy(
        rule("open", "allow"),
        rule("ask", "ask", '"args.body" = { size = { gt = 3 } }'),
        rule("cut", "modify", "", 'set = { "args.body" = "" }'),
    )

    settled = Rulebook(document).settle(request(args={"body": "long text"}))

    assert settled.verdict == "ask"
    assert [terms.rule for terms in settled.ruling.approvals] == ["ask"]
    assert settled.request.args == {"body": ""}


def test_a_model_call_changes_its_route() -> None:
    """A soft limit may switch the model; the new one is decided about too."""
    document = policy(
        'id = "m"\nthen = "allow"\naction = "call_llm"\nwhere = { model = { glob = "*" } }',
        'id = "s"\nthen = "modify"\naction = "call_llm"\nset = { model = "small" }\n'
        'where = { "budget.left.llm_tokens" = { lt = 1000 } }',
    )
    asked = Request(action="call_llm", provider="p", model="big", left={"llm_tokens": 5})

    settled = Rulebook(document).settle(asked)

    assert (settled.verdict, settled.request.model) == ("modify", "small")


@pytest.mark.parametrize("result", [{"email": "a@b.c"}, {"email": None}, {}])
def test_results_are_changed_before_anybody_sees_them(result: Any) -> None:
    """Redaction of results is a modify at the result."""
    document = policy(
        'id = "r"\nthen = "modify"\non = "result"\ntool = "crm"\n'
        'redact = { "result.email" = "all" }'
    )
    asked = Request(on="result", tool="crm", result=result)

    ruling = Rulebook(document).decide(asked)

    had = bool(result.get("email"))
    assert ruling.verdict == ("modify" if had else "allow")
    assert ruling.changed is MISSING or ruling.changed == {"email": ALL}


def test_a_change_into_something_forbidden_is_denied() -> None:
    """The last round counts when it is the stricter one."""
    document = policy(
        rule("open", "allow"),
        rule("move", "modify", '"args.to" = { eq = "old" }', 'set = { "args.to" = "new" }'),
        rule("closed", "deny", '"args.to" = { eq = "new" }'),
    )

    settled = Rulebook(document).settle(request(args={"to": "old"}))

    assert (settled.verdict, settled.ruling.rules) == ("deny", ("closed",))
