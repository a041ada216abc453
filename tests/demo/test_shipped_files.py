"""The data the demo ships: messages, orders, articles and the scripted answers fit together."""

import json
import re
from decimal import Decimal
from typing import Any

from gatebook.demo.desk import DATA, letter_ids, read_letter, search_articles

NO_SUCH_ORDER = "KK-29999"  # M-013 asks for it on purpose
ORDER = re.compile(r"KK-\d{5}")

ORDERS: list[dict[str, Any]] = json.loads((DATA / "orders.json").read_text(encoding="utf-8"))
RULES: list[dict[str, Any]] = json.loads((DATA / "answers.json").read_text())["rules"]


def calls(tool: str) -> list[dict[str, Any]]:
    """Return the arguments of every scripted call of a tool, with the message it is about."""
    return [
        call["args"] | {"about": rule["when"].get("user", "")}
        for rule in RULES
        for call in rule.get("call", ())
        if call["tool"] == tool
    ]


def test_there_are_forty_messages_numbered_without_a_gap() -> None:
    """The runs are named after them, and the story counts them."""
    assert letter_ids() == [f"M-{number:03}" for number in range(1, 41)]


def test_every_message_reads_and_they_are_in_the_order_they_came() -> None:
    """A file with a torn head would surface in the middle of a run."""
    letters = [read_letter(name) for name in letter_ids()]

    assert all(letter and letter.subject and letter.body for letter in letters)
    received = [letter.received for letter in letters if letter]
    assert received == sorted(received)


def test_every_address_is_of_a_domain_that_belongs_to_nobody() -> None:
    """A demo must not be able to write to a real person."""
    texts = [file.read_text(encoding="utf-8") for file in DATA.rglob("*.*")]

    domains = {domain for text in texts for domain in re.findall(r"@([\w.-]*\w)", text)}

    assert {re.sub(r"^.*?(example\.(com|org|net))$", r"\1", name) for name in domains} == {
        "example.com",
        "example.org",
        "example.net",
    }


def test_an_order_number_stands_once() -> None:
    """Two orders of one number would have two amounts paid."""
    numbers = [order["order"] for order in ORDERS]

    assert len(numbers) == len(set(numbers))


def test_every_order_a_customer_names_exists_except_one() -> None:
    """Only the order that is missing on purpose may be missing."""
    texts = [file.read_text(encoding="utf-8") for file in (DATA / "messages").iterdir()]
    named = {number for text in texts for number in ORDER.findall(text)}

    assert named - {order["order"] for order in ORDERS} == {NO_SUCH_ORDER}


def test_an_amount_paid_is_money() -> None:
    """Amounts travel as text with two decimals, never as floats."""
    assert all(str(Decimal(order["paid"])) == order["paid"] for order in ORDERS)
    assert {Decimal(order["paid"]).as_tuple().exponent for order in ORDERS} == {-2}


def test_every_message_has_a_last_answer_in_the_script() -> None:
    """A message without one would end its run with the error that no rule applies."""
    answered = [rule["when"]["user"] for rule in RULES if "say" in rule]

    assert answered == letter_ids()


def test_the_script_reads_a_message_before_it_acts_on_it() -> None:
    """The scripted model must not know what a message says before it has read it."""
    first = [rule for rule in RULES if rule["when"]["turns"] == 0]

    assert [[call["tool"] for call in rule["call"]] for rule in first] == [["read_message"]]


def test_the_script_writes_only_to_the_sender() -> None:
    """An answer that goes to somebody else is the kind of mistake a demo should not teach."""
    strangers = []
    for mail in calls("send_mail"):
        letter = read_letter(mail["about"])
        if letter is None or f"<{mail['to']}>" not in letter.sender:
            strangers.append(mail["to"])

    assert strangers == []


def test_every_scripted_search_finds_an_article() -> None:
    """A search without a hit would make the answer after it look invented."""
    assert [
        call["query"] for call in calls("search_kb") if not search_articles(call["query"])
    ] == []


def test_the_script_asks_for_one_refund_too_large_one_twice_and_one_in_another_currency() -> None:
    """These are what the tool must refuse while the story goes on."""
    paid = {order["order"]: (Decimal(order["paid"]), order["currency"]) for order in ORDERS}
    refunds = [
        (call["order"], Decimal(call["amount"]), call["currency"]) for call in calls("refund")
    ]

    too_large = [order for order, amount, _ in refunds if amount > paid[order][0]]
    foreign = [order for order, _, currency in refunds if currency != paid[order][1]]
    twice = {item[0] for item in refunds if refunds.count(item) > 1}

    assert (too_large, foreign, twice) == (["KK-20419"], ["KK-20434"], {"KK-20409"})
