"""Explanations: which rule, which facts, and what would make it allowed."""

from gatebook.kernel.rules.explain import Asked, explain
from gatebook.kernel.rules.match import Rulebook
from tests.kernel.rules.kit import policy, request, rule

BOOK = Rulebook(
    policy(
        rule("small", "allow", '"args.amount" = { gt = 0, le = 500 }', 'agent = "support-*"'),
        rule("big", "ask", '"args.amount" = { gt = 50 }'),
        rule("never", "deny", '"args.to" = { glob = "*@evil.com", optional = true }'),
    )
)


def test_each_rule_is_shown_with_what_it_saw() -> None:
    """An explanation is a table a person can check by hand."""
    found = explain(BOOK, request(args={"amount": 501}, agent="support-1"))

    by_rule = {looked.rule: looked for looked in found.looked}
    assert found.verdict == "deny"
    assert [looked.rule for looked in found.looked] == ["big", "never", "small"]
    assert by_rule["small"].asked == (
        Asked(text="args.amount gt 0 and le 500", value="501", truth=False),
    )
    assert not by_rule["small"].fired
    assert by_rule["big"].fired
    assert by_rule["never"].asked[0].text == "args.to glob *@evil.com (optional)"
    assert by_rule["small"].place == "policy.toml:3"


def test_a_remedy_says_what_an_allow_lacks() -> None:
    """The shortest way to the answer: what would have to be otherwise."""
    found = explain(BOOK, request(args={"amount": 501}, agent="sales"))

    assert found.remedies == (
        "rule 'small' allows it when the agent is support-* (is sales), "
        "and args.amount gt 0 and le 500 (is 501)",
    )


def test_a_remedy_says_what_a_deny_wants() -> None:
    """A deny is lifted by making its conditions surely false, or by nothing."""
    found = explain(BOOK, request(args={"amount": 5, "to": "x@evil.com"}, agent="support-1"))

    assert found.remedies == (
        "rule 'never' must not deny it: "
        "make it surely false that args.to glob *@evil.com (optional)",
    )


def test_a_tool_without_any_rule_needs_one() -> None:
    """The usual beginning."""
    found = explain(BOOK, request("other"))

    assert found.looked == ()
    assert found.remedies == ("add a rule with then = \"allow\" that is about 'other'",)


def test_what_is_allowed_needs_no_remedy() -> None:
    """Nothing to say is said in no words."""
    found = explain(BOOK, request(args={"amount": 5}, agent="support-1"))

    assert (found.verdict, found.rules, found.remedies) == ("allow", ("small",), ())


def test_values_are_shown_without_secrets() -> None:
    """An explanation is printed and pasted."""
    key = "sk-ant-" + "a" * 30
    found = explain(BOOK, request(args={"amount": key}, agent="support-1"))

    assert key not in repr(found)
    assert "[redacted:api-key]" in repr(found)
