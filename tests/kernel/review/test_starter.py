"""First policies: they check, their tests pass, and they allow no more than they say."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gatebook.kernel.review.starter import Starter, starter
from gatebook.kernel.rules.check import check
from gatebook.kernel.rules.facts import History, Request, tool_facts
from gatebook.kernel.rules.match import Rulebook
from gatebook.kernel.rules.reading import load
from gatebook.kernel.rules.trials import run_tests
from gatebook.kernel.tools import ToolSpec
from tests.kernel.review.kit import spec, tools

NAMES = st.text("abcXYZ019_.-", min_size=1, max_size=64).filter(lambda n: n[0] != ".")
ARGUMENTS = st.dictionaries(
    st.text(min_size=1, max_size=12), st.just({"type": "string"}), max_size=6
)
SPECS = st.builds(
    lambda name, effect, sends, arguments: spec(name, effect, sends=sends, **arguments),
    NAMES, st.sampled_from(["read", "idempotent", "at_most_once"]), st.booleans(),
    ARGUMENTS.filter(lambda found: not {"name", "effect", "sends"} & set(found)),
)  # fmt: skip
ROUTES = st.lists(st.sampled_from(["openai:mini", "scripted:a b.json", "x:y:z"]), max_size=3)

DESK = tools(
    spec("look_up", "read", order={"type": "string"}),
    spec("refund", order={"type": "string"}, amount={"type": "integer"}),
    spec("mail", "idempotent", sends=True, to={"type": "string"}),
)


def first(known: dict[str, ToolSpec], *routes: str, **more: Any) -> Starter:
    return starter("desk", known, routes, target="app:desk", **more)


def verdict(text: str, known: dict[str, ToolSpec], tool: str, **facts: Any) -> str:
    about = tool_facts(known[tool])
    request = Request(tool=tool, args={}, about=about, **{"history": History(), **facts})
    return Rulebook(load(text)).decide(request).verdict


@given(st.lists(SPECS, max_size=5, unique_by=lambda each: each.name), ROUTES)
def test_every_first_policy_checks_and_passes_its_own_tests(
    specs: list[ToolSpec], routes: list[str]
) -> None:
    """A first step that fails is the last one."""
    known = tools(*specs)

    document = load(first(known, *routes).text)

    assert check(document, known) == []
    assert [result for result in run_tests(document) if not result.passed] == []


@given(st.lists(SPECS, min_size=1, max_size=5, unique_by=lambda each: each.name))
def test_every_rule_has_a_test(specs: list[ToolSpec]) -> None:
    """Whoever changes a rule learns what it did."""
    document = load(first(tools(*specs), "openai:mini").text)

    proved = {trial.rule for trial in document.trials}
    opens = {"effects"}  # proved by the asks about the same tools
    assert {rule.id for rule in document.rules} - proved <= opens


def test_reads_are_allowed_and_everything_else_asks() -> None:
    """What cannot do harm need not wait for anybody."""
    text = first(DESK).text

    assert [verdict(text, DESK, name) for name in DESK] == ["allow", "ask", "ask"]


def test_what_is_not_named_is_denied() -> None:
    """A tool that comes tomorrow is decided about tomorrow."""
    text = first(DESK).text

    assert verdict(text, DESK | tools(spec("wipe")), "wipe") == "deny"


def test_a_tool_that_sends_asks_once_the_run_has_seen_both_labels() -> None:
    """Strangers' text may steer a run, and private data is what they want."""
    known = DESK | tools(spec("search", "read", sends=True))
    text = first(known).text

    seen = [
        verdict(text, known, "search", history=History(seen=set(labels)))
        for labels in ([], ["untrusted"], ["private"], ["private", "untrusted"])
    ]

    assert seen == ["allow", "allow", "allow", "ask"]


def test_only_declared_routes_may_be_called() -> None:
    """A model that nobody chose is nobody's bill."""
    book = Rulebook(load(first({}, "openai:mini").text))

    answers = [
        book.decide(Request(action="call_llm", provider="openai", model=model)).verdict
        for model in ("mini", "max")
    ]

    assert answers == ["allow", "deny"]


def test_dollars_are_limited_only_when_every_price_is_known() -> None:
    """Under a limit in dollars a model without a price is refused, which no newcomer expects."""
    known, unknown = first({}, "a:b"), first({}, "a:b", unpriced=["a:b"])

    assert str(load(known.text).budgets.cost_usd) == "1.00"
    assert load(unknown.text).budgets.cost_usd is None
    assert '# cost_usd = "1.00"' in unknown.text


def test_secrets_are_left_out_of_the_question() -> None:
    """A person is asked about what is done, not shown what opens the door."""
    import msgspec

    pay = msgspec.structs.replace(DESK["refund"], secrets=("amount",))

    message = next(r.message for r in load(first(tools(pay)).text).rules if r.id == "ask-refund")

    assert message == "{tool}: order {args.order}?"
