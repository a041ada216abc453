"""Broken builds of budgets that are shared: each lets runs spend what a ledger does not have."""

from tests.mutants.builds import KERNEL, RUNTIME, Build

DAYS = ("tests/journals/test_ledger_days.py",)
SOFT = (f"{RUNTIME}/test_soft_limits.py",)

LEDGER_BUILDS = (
    Build(
        "a reservation is not settled",
        "kernel/spending/ledgers.py",
        "    return [Move(address, key, NOTHING - reserve, charge) for key in keys]\n",
        "    return [Move(address, key, NOTHING, charge) for key in keys]\n",
        (f"{KERNEL}/test_sums.py",),
        quick=True,
    ),
    Build(
        "the ledger is asked before the append and not inside it",
        "kernel/append.py",
        "    if short is not None:\n        raise BudgetShort(short.code",
        "    if False:\n        raise BudgetShort(short.code",
        DAYS,
        quick=True,
    ),
    Build(
        "a refused append has booked already",
        "kernel/spending/booking.py",
        "                return {}, refused(move.address, short)\n",
        "                return changed, None\n",
        DAYS,
    ),
    Build(
        "a worker chooses the day",
        "kernel/append.py",
        "    return head.time <= time <= now and now - time <= now % DAY_US\n",
        "    return head.time <= time <= now\n",
        DAYS,
    ),
    Build(
        "a reservation is settled on the day of its outcome",
        "kernel/spending/booking.py",
        "            return settling(event.address, entry.ledgers, entry.reserve, event.spent)\n",
        "            from gatebook.kernel.spending.ledgers import keys_of\n"
        "            keys = keys_of(head.ledgers or {}, event.time, entry.reserve)\n"
        "            return settling(event.address, keys, entry.reserve, event.spent)\n",
        DAYS,
    ),
    Build(
        "an overrun is forgotten",
        "kernel/spending/ledgers.py",
        "        return self.reserved + self.spent\n",
        "        return self.reserved\n",
        (f"{KERNEL}/test_ledgers.py",),
    ),
    Build(
        "a retry reserves nothing",
        "kernel/spending/booking.py",
        "            return [*_settle(head, event.address), *_hold(head, event)]\n",
        "            return _settle(head, event.address)\n",
        (f"{KERNEL}/test_sums.py",),
    ),
    Build(
        "an unknown outcome gives its reservation back",
        "kernel/head.py",
        "            entry.ledgers,\n        )  # fmt: skip\n",
        "        )  # fmt: skip\n",
        (f"{KERNEL}/test_sums.py",),
    ),
    Build(
        "the end of a run leaves reservations behind",
        "kernel/spending/booking.py",
        "            return [move for address in head.open for move in _settle(head, address)]\n",
        "            return []\n",
        (f"{KERNEL}/test_sums.py",),
    ),
    Build(
        "a draft is not guarded by its ledgers",
        "journals/entry.py",
        "        if head.ledgers is not None and book is not None:\n",
        "        if head.ledgers is not None and book is not None and draft is None:\n",
        DAYS,
    ),
    Build(
        "another process's spending is not seen",
        "journals/sqlite_desk.py",
        "        self._book.forget()\n",
        "",
        ("tests/journals/test_ledger_processes.py",),
    ),
    Build(
        "balances are not written",
        "journals/sqlite_desk.py",
        "        if self._book.changed:\n",
        "        if False:\n",
        ("tests/journals/test_ledger_processes.py",),
    ),
    Build(
        "siblings find the same room in a ledger",
        "kernel/spending/ledgers.py",
        "        self._known[move.ledger] = move.on(self._known.get(move.ledger, EMPTY))\n",
        "        pass\n",
        (f"{KERNEL}/test_ledgers.py",),
    ),
    Build(
        "a price is not asked for under a ledger in dollars",
        "kernel/spending/reserving.py",
        " or (shared is not None and shared.in_dollars)\n",
        "\n",
        (f"{RUNTIME}/test_ledgers.py",),
    ),
    Build(
        "changed ledgers are not declared",
        "runtime/driving/planner.py",
        "        if self._ledgers != (head.ledgers or None):\n",
        "        if self._ledgers and not head.ledgers:\n",
        (f"{RUNTIME}/test_ledgers.py",),
    ),
    Build(
        "soft limits are not looked at",
        "kernel/gate.py",
        '        if grounds.soft and decision.verdict == "allow":\n',
        "        if False:\n",
        SOFT,
    ),
    Build(
        "the fan-out of an agent is counted by what is asked at a time",
        "runtime/driving/crowds.py",
        "        if self._by_turn and budget is not None:\n",
        "        if False:\n",
        SOFT,
    ),
    Build(
        "a raise may lower",
        "kernel/append.py",
        "        if meter in asked and (old is None or new <= old):\n",
        "        if meter in asked and old is None:\n",
        (f"{KERNEL}/test_raises.py",),
    ),
    Build(
        "what is added is forgotten",
        "kernel/head.py",
        "self.limits.raised(event.limits).grown(event.more)",
        "self.limits.raised(event.limits)",
        (f"{KERNEL}/test_raises.py",),
    ),
)
