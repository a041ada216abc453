"""What the support agent may do: seven tools that read and write the desk's files.

Each says what a second start would do: nothing (`read`), nothing new with the same key
(`idempotent`), or harm (`at_most_once`).
"""

from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import Field

from gatebook import Permanent, ToolContext, ToolRetry, tool
from gatebook.demo import desk as files
from gatebook.demo.desk import HELD_S, Article, Desk, Letter, Order

MessageId = Annotated[str, Field(pattern=r"^M-[0-9]{3}$")]
Team = Literal["accounting", "claims", "payments", "privacy", "sales", "security", "warehouse"]


@dataclass(frozen=True)
class Receipt:
    """What the bank answers to a refund."""

    receipt: str
    order: str
    amount: Decimal
    currency: str


def receipt_of(line: dict[str, Any]) -> Receipt:
    """Return the receipt that belongs to a ledger line."""
    return Receipt(line["receipt"], line["order"], Decimal(line["amount"]), line["currency"])


@tool(effect="read")
def read_message(id: MessageId) -> Letter:
    """Read one customer message.

    Args:
        id: the message id, as in M-001
    """
    letter = files.read_letter(id)
    if letter is None:
        raise ToolRetry(f"there is no message {id}: the last is {files.letter_ids()[-1]}")
    return letter


@tool(effect="read")
def list_messages(sender: str) -> list[str]:
    """List the ids and subjects of all messages of one sender, oldest first.

    Args:
        sender: an e-mail address
    """
    letters = [files.read_letter(id) for id in files.letter_ids()]
    return [f"{x.id} {x.received} {x.subject}" for x in letters if x and f"<{sender}>" in x.sender]


@tool(effect="read")
def find_order(ctx: ToolContext[Desk], order: str) -> Order:
    """Look up an order: items, what was paid, its status, and what was refunded already.

    Args:
        order: the order number, as in KK-20401
    """
    found = ctx.deps.order(order)
    if found is None:
        raise Permanent(f"there is no order {order}: ask the customer to check the number")
    return found


@tool(effect="read", timeout=HELD_S)
def search_kb(ctx: ToolContext[Desk], query: str) -> list[Article]:
    """Search the desk's rules and product facts.

    Args:
        query: a few English words
    """
    ctx.deps.moment(f"searching {query}")
    return files.search_articles(query)


@tool(effect="at_most_once", timeout=HELD_S)
def refund(
    ctx: ToolContext[Desk], order: str, amount: Decimal, currency: str, reason: str
) -> Receipt:
    """Pay money back for an order, to the card it was paid with.

    Args:
        order: the order number
        amount: how much, at most what was paid
        currency: the currency of the order
        reason: for the books, in a few words
    """
    desk = ctx.deps
    bought = desk.order(order)
    if bought is None:
        raise Permanent(f"there is no order {order}")
    if currency != bought.currency:
        raise ToolRetry(f"{order} was paid in {bought.currency}, not {currency}")
    key = ctx.idempotency_key

    def decide(lines: list[dict[str, Any]]) -> dict[str, Any]:
        """Refuse what exceeds the order; pay a key seen before again: the bank knows no keys."""
        already = files.refunded_of(lines, order)
        if amount <= 0 or already + amount > bought.paid:
            text = f"{amount} {currency} refused: {bought.paid} paid, {already} refunded already"
            raise Permanent(text)
        number = f"R-{1001 + len(lines)}"
        facts = {"order": order, "amount": str(amount), "currency": currency, "reason": reason}
        return {"receipt": number, **facts, "key": key}

    desk.moment(f"paying {order}")
    line = desk.ledger.append_if(decide)
    desk.moment(f"paid {order}")
    assert line is not None  # decide refuses or answers a line
    return receipt_of(line)


@tool(effect="idempotent", timeout=HELD_S)
def send_mail(ctx: ToolContext[Desk], to: str, subject: str, body: str) -> str:
    """Send a mail to a customer.

    Args:
        to: an e-mail address
        subject: the subject line
        body: the text, in the customer's language
    """
    desk, key = ctx.deps, ctx.idempotency_key
    mail = {"to": to, "subject": subject, "body": body, "key": key}
    desk.outbox.append_if(lambda lines: None if _has(lines, key) else mail)
    desk.moment(f"sent {to}")
    return "sent"


@tool(effect="idempotent")
def hand_over(ctx: ToolContext[Desk], message: MessageId, team: Team, note: str) -> str:
    """Hand a message over to people who can do what the desk cannot.

    Args:
        message: the message id
        team: who takes it
        note: what they need to know, in one sentence
    """
    key = ctx.idempotency_key
    item = {"message": message, "team": team, "note": note, "key": key}
    ctx.deps.handovers.append_if(lambda lines: None if _has(lines, key) else item)
    return f"handed over to {team}"


@tool(effect="at_most_once")
def close_account(ctx: ToolContext[Desk], customer: str, reason: str) -> str:
    """Close a customer's account for good.

    Args:
        customer: the e-mail address of the account
        reason: why
    """
    ctx.deps.closed_accounts.append({"customer": customer, "reason": reason})
    return "closed"


def _has(lines: list[dict[str, Any]], key: str) -> bool:
    return any(line["key"] == key for line in lines)


READS = [read_message, list_messages, find_order, search_kb]
TOOLS: list[Any] = [*READS, refund, send_mail, hand_over, close_account]
