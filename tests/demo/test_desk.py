"""The desk's files behave like a careful service: synced lines, under a lock, one at a time."""

import threading
from decimal import Decimal
from pathlib import Path

from gatebook.demo.desk import Desk, JsonLines, read_letter


def test_a_file_that_was_never_written_has_no_lines(tmp_path: Path) -> None:
    """The demo reads the ledger before the first refund."""
    assert JsonLines(tmp_path / "ledger.jsonl").read() == []


def test_lines_come_back_in_the_order_they_were_written(tmp_path: Path) -> None:
    """The ledger is read as a story."""
    lines = JsonLines(tmp_path / "ledger.jsonl")

    lines.append({"receipt": "R-1001"})
    lines.append({"receipt": "R-1002"})

    assert [line["receipt"] for line in lines.read()] == ["R-1001", "R-1002"]


def test_a_decision_sees_every_line_that_was_written_before_it(tmp_path: Path) -> None:
    """Two refunds at once must not both see an empty ledger."""
    lines = JsonLines(tmp_path / "ledger.jsonl")
    count = 8
    start = threading.Barrier(count)

    def append() -> None:
        start.wait()
        lines.append_if(lambda before: {"number": len(before)})

    threads = [threading.Thread(target=append) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [line["number"] for line in lines.read()] == list(range(count))


def test_nothing_is_written_when_the_decision_is_none(tmp_path: Path) -> None:
    """This is how a repeated mail stays one mail."""
    lines = JsonLines(tmp_path / "outbox.jsonl")

    lines.append_if(lambda before: None)

    assert lines.read() == []


def test_an_order_shows_what_the_ledger_has_paid_back(tmp_path: Path) -> None:
    """The agent must see a refund that another run has made."""
    desk = Desk(tmp_path)
    desk.ledger.append({"order": "KK-20408", "amount": "12.50"})
    desk.ledger.append({"order": "KK-20409", "amount": "34.90"})

    order = desk.order("KK-20408")

    assert order is not None
    assert (order.paid, order.refunded) == (Decimal("34.00"), Decimal("12.50"))


def test_an_order_nobody_made_is_none(tmp_path: Path) -> None:
    """A customer may mistype a number."""
    assert Desk(tmp_path).order("KK-29999") is None


def test_a_message_id_cannot_name_another_file() -> None:
    """The id comes from a model, so it is not to be trusted with a path."""
    assert read_letter("../kb/returns") is None
    assert read_letter("M-041") is None


def test_a_held_moment_reports_itself(tmp_path: Path) -> None:
    """The kill waits for this file, not for a time."""
    desk = Desk(tmp_path, holds=frozenset({"paid KK-20408"}))
    threading.Thread(target=desk.moment, args=["paid KK-20408"], daemon=True).start()

    while not desk.held():
        pass

    assert desk.held() == {"paid KK-20408"}


def test_other_moments_pass(tmp_path: Path) -> None:
    """Only the named calls may stop."""
    desk = Desk(tmp_path, holds=frozenset({"paid KK-20408"}), service_s=0)

    desk.moment("paid KK-20409")

    assert desk.held() == frozenset()
