"""The demo's tools really do what they say, and refuse what a desk must refuse."""

from decimal import Decimal
from pathlib import Path

import pytest

from gatebook import Permanent, ToolContext, ToolRetry
from gatebook.demo.desk import Desk
from gatebook.demo.tools import (
    TOOLS,
    Receipt,
    close_account,
    find_order,
    list_messages,
    read_message,
    receipt_of,
    refund,
    search_kb,
    send_mail,
)


def context(folder: Path, key: str = "gb1-0") -> ToolContext[Desk]:
    """Return the context of one attempt at a desk whose services take no time."""
    return ToolContext(deps=Desk(folder, service_s=0), idempotency_key=key)


def test_a_refund_is_one_line_in_the_ledger_and_its_receipt(tmp_path: Path) -> None:
    """The demo resolves an unknown refund from this line."""
    ctx = context(tmp_path)

    receipt = refund(ctx, "KK-20408", Decimal("12.50"), "EUR", "tin missing")

    assert receipt == Receipt("R-1001", "KK-20408", Decimal("12.50"), "EUR")
    (line,) = ctx.deps.ledger.read()
    assert receipt_of(line) == receipt
    assert line["key"] == "gb1-0"


def test_the_bank_pays_again_for_a_key_it_has_seen(tmp_path: Path) -> None:
    """If it did not, a second start would be harmless and the demo would prove nothing."""
    ctx = context(tmp_path)

    refund(ctx, "KK-20408", Decimal("12.50"), "EUR", "tin missing")
    refund(ctx, "KK-20408", Decimal("12.50"), "EUR", "tin missing")

    assert [line["key"] for line in ctx.deps.ledger.read()] == ["gb1-0", "gb1-0"]


def test_refunds_of_an_order_never_exceed_what_was_paid(tmp_path: Path) -> None:
    """The limit counts what other runs have paid back."""
    ctx = context(tmp_path)
    refund(ctx, "KK-20409", Decimal("34.90"), "EUR", "returned")

    with pytest.raises(Permanent, match=r"34\.90 paid, 34\.90 refunded already"):
        refund(ctx, "KK-20409", Decimal("0.01"), "EUR", "returned")

    assert len(ctx.deps.ledger.read()) == 1


@pytest.mark.parametrize("amount", ["0", "-1.00"])
def test_a_refund_takes_no_money(tmp_path: Path, amount: str) -> None:
    """A negative refund would be a charge."""
    ctx = context(tmp_path)

    with pytest.raises(Permanent):
        refund(ctx, "KK-20409", Decimal(amount), "EUR", "returned")

    assert ctx.deps.ledger.read() == []


def test_a_refund_in_another_currency_is_to_be_asked_again(tmp_path: Path) -> None:
    """The text tells the model what to do."""
    with pytest.raises(ToolRetry, match="was paid in GBP"):
        refund(context(tmp_path), "KK-20434", Decimal("22.50"), "EUR", "cracked")


def test_an_order_nobody_made_cannot_be_refunded(tmp_path: Path) -> None:
    """Customers and models make numbers up."""
    with pytest.raises(Permanent, match="no order KK-29999"):
        refund(context(tmp_path), "KK-29999", Decimal("1.00"), "EUR", "none")
    with pytest.raises(Permanent, match="no order KK-29999"):
        find_order(context(tmp_path), "KK-29999")


def test_a_mail_with_a_key_that_was_sent_is_not_sent_again(tmp_path: Path) -> None:
    """This makes it idempotent: a repeated attempt changes nothing."""
    for key in ("gb1-0", "gb1-0", "gb1-1"):
        send_mail(context(tmp_path, key), "k87@example.net", "Re: hi", "Hello")

    assert [mail["key"] for mail in Desk(tmp_path).outbox.read()] == ["gb1-0", "gb1-1"]


def test_messages_are_read_and_listed_by_sender(tmp_path: Path) -> None:
    """A customer who writes twice is one customer."""
    letter = read_message("M-026")

    assert "I do not like having to ask twice" in letter.body
    assert [line[:5] for line in list_messages("d.whitcombe@example.com")] == ["M-009", "M-026"]


def test_a_message_that_is_not_there_is_to_be_asked_again() -> None:
    """A model that counts too far must be told."""
    with pytest.raises(ToolRetry, match="the last is M-040"):
        read_message("M-041")


def test_articles_are_found_by_their_words(tmp_path: Path) -> None:
    """The agent decides by them."""
    found = search_kb(context(tmp_path), "price promise")

    assert "price falls within 7 days" in found[0].text


def test_closing_an_account_would_really_be_written(tmp_path: Path) -> None:
    """Only then does the missing file prove that the policy refused it."""
    ctx = context(tmp_path)

    close_account(ctx, "sam.okafor@example.com", "maintenance")

    assert [line["customer"] for line in ctx.deps.closed_accounts.read()] == [
        "sam.okafor@example.com"
    ]


def test_what_pays_or_closes_may_start_once_only() -> None:
    """The classes decide what recovery may repeat."""
    effects = {tool.name: tool.spec.effect for tool in TOOLS}

    assert {name for name, effect in effects.items() if effect == "at_most_once"} == {
        "refund",
        "close_account",
    }
