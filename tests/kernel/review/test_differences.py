"""Two policies side by side, in words."""

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from gatebook.kernel.records import STRICTNESS
from gatebook.kernel.review.differences import Difference, differences
from gatebook.kernel.rules.document import Document, Rule
from gatebook.kernel.rules.facts import Request
from gatebook.kernel.rules.match import Rulebook
from tests.kernel.review.kit import policy
from tests.kernel.rules.test_laws import POLICIES, REQUESTS

READS = 'id = "reads"\nthen = "allow"\ntool = "look_up"'
REFUND = 'id = "refund"\nthen = "allow"\ntool = "refund"\nwhere = { "args.amount" = { le = 500 } }'


VARIANTS = POLICIES.map(lambda found: [rule for rule in found if one_condition_a_fact(rule)])


def only(old: tuple[str, ...], new: tuple[str, ...], top: str = "") -> Difference:
    (found,) = differences(policy(*old), policy(*new, top=top))
    return found


def one_condition_a_fact(rule: Rule) -> bool:
    return len({condition.fact for condition in rule.where}) == len(rule.where)


def varied(rules: list[Rule], random: Any) -> list[Rule]:
    """Some of the rules, some of them with another verdict or without a condition."""
    found = []
    for rule in rules:
        way = random.randrange(4)
        if way == 0:
            then = random.choice(("allow", "ask", "deny"))
            found.append(msgspec.structs.replace(rule, then=then, changes=()))
        elif way == 1:
            found.append(msgspec.structs.replace(rule, where=rule.where[1:]))
        elif way == 2:
            found.append(rule)
    return found


@given(VARIANTS, st.randoms(use_true_random=False))
def test_there_is_a_difference_exactly_when_the_digests_differ(
    rules: list[Rule], random: Any
) -> None:
    """A digest is what journals name a policy by."""
    old, new = Document(rules=tuple(rules)), Document(rules=tuple(varied(rules, random)))

    assert (differences(old, new) == ()) == (old.digest == new.digest)


@settings(max_examples=200)
@given(VARIANTS, st.randoms(use_true_random=False), REQUESTS)
def test_what_is_said_to_allow_less_never_allows_more(
    rules: list[Rule], random: Any, request: Request
) -> None:
    """A reviewer skips what the column says, so it must be right for every request."""
    old, new = Document(rules=tuple(rules)), Document(rules=tuple(varied(rules, random)))
    said = {each.allows for each in differences(old, new)}

    before, after = (
        STRICTNESS.index(Rulebook(document).decide(request).verdict) for document in (old, new)
    )

    if said <= {"less", "the same"}:
        assert after >= before
    if said <= {"more", "the same"}:
        assert after <= before


def test_order_and_tests_make_no_difference() -> None:
    """They decide nothing."""
    test = '[[test]]\ncall = { tool = "x" }\nexpect = "deny"'

    assert differences(policy(READS, REFUND), policy(REFUND, f"{READS}\n{test}")) == ()


def test_an_added_allow_allows_more_and_a_removed_one_less() -> None:
    """The first thing a reviewer wants to know."""
    added, removed = only((READS,), (READS, REFUND)), only((READS, REFUND), (READS,))

    assert (added.change, added.name, added.allows) == ("added", "refund", "more")
    assert (removed.change, removed.name, removed.allows) == ("removed", "refund", "less")
    assert added.detail == "allow refund where args.amount le 500"
    assert added.place == "policy.toml:8"


def test_an_added_restriction_allows_less() -> None:
    """Whatever it is about: a rule that is no allow never opens anything."""
    deny = 'id = "no"\nthen = "deny"\ntool = "*"'

    assert only((READS,), (READS, deny)).allows == "less"


def test_a_changed_condition_is_shown_with_both_operands() -> None:
    """Which limit moved, and from where to where."""
    found = only((REFUND,), (REFUND.replace("500", "50"),))

    assert found.detail == "where args.amount le 500 -> le 50"
    assert (found.change, found.allows) == ("changed", "either")


def test_one_condition_more_narrows_an_allow_and_widens_a_deny() -> None:
    """All conditions must hold: each one makes a rule decide less."""
    wide = 'id = "r"\nthen = "{}"\ntool = "t"'
    narrow = wide + '\nwhere = {{ user = {{ eq = "ann" }} }}'

    verdicts = [
        only((wide.format(then),), (narrow.format(then),)).allows for then in ("allow", "deny")
    ]

    assert verdicts == ["less", "more"]


def test_texts_and_numbers_that_look_alike_differ() -> None:
    """17 and "17" are never equal to the same argument."""
    found = only((REFUND.replace("le = 500", "eq = 17"),),
                 (REFUND.replace("le = 500", 'eq = "17"'),))  # fmt: skip

    assert found.detail == 'where args.amount eq 17 -> eq "17"'


def test_a_stricter_verdict_allows_less() -> None:
    """From allow to ask, from ask to deny."""
    assert only((READS,), (READS.replace('"allow"', '"ask"'),)).allows == "less"


def test_other_words_allow_the_same() -> None:
    """Nobody should have to think about a spelling."""
    before, after = (f'{READS.replace("allow", "ask")}\nmessage = "{text}"' for text in ("a", "b"))

    found = only((before,), (after,))

    assert (found.detail, found.allows) == ('message "a" -> "b"', "the same")


def test_limits_say_in_which_direction_they_moved() -> None:
    """A budget is part of what is allowed."""
    found = differences(
        policy(top='[budgets]\ntool_calls = 60\nwall_clock = "90m"\n'),
        policy(top='[budgets]\ntool_calls = 40\ncost_usd = "1.50"\n'),
    )

    assert [(each.change, each.name, each.detail, each.allows) for each in found] == [
        ("changed", "tool_calls", "60 -> 40", "less"),
        ("removed", "wall_clock", "90m -> no limit", "more"),
        ("added", "cost_usd", "no limit -> 1.50", "less"),
    ]


def test_shadow_allows_more() -> None:
    """Nothing is held back any more."""
    found = only((READS,), (READS,), top='mode = "shadow"\n')

    assert (found.detail, found.allows) == ("enforce -> shadow", "more")


def test_a_label_is_added_or_removed() -> None:
    """What it changes depends on the rules that ask for it."""
    found = only((READS,), (READS,), top='[[label]]\ntool = "web"\nadd = "untrusted"\n')

    assert (found.change, found.what, found.name) == ("added", "label", "untrusted")
    assert (found.detail, found.allows) == ("results of web", "either")
