"""The broken builds: which rule each breaks, by which change, and which tests must fail.

A build whose old text is gone from its file is an error, so this list follows the code.
"""

from typing import NamedTuple

KERNEL = "tests/kernel"
RUNTIME = "tests/runtime"


class Build(NamedTuple):
    """One change of one file of src/gatebook, and tests of which at least one must fail."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    quick: bool = False  # also run by `make test`


BUILDS = (
    # A request is stored before its effect; each later attempt is preceded by a stored start.
    Build(
        "effect before its request is stored",
        "runtime/driving/driver.py",
        "            if self._plan(planner) and not await self._commit(planner.batch()):\n",
        "            planned = self._plan(planner)\n"
        "            self._start(planner)\n"
        "            if planned and not await self._commit(planner.batch()):\n",
        (f"{RUNTIME}/test_commits.py",),
        quick=True,
    ),
    Build(
        "an attempt is not decided again",
        "runtime/driving/planner.py",
        "        if refusal is None:\n            cause",
        "        if True:\n            cause",
        (f"{RUNTIME}/test_recovery.py",),
    ),
    Build(
        "a policy may restart an at_most_once action that crashed",
        "runtime/driving/outcomes.py",
        'if request.effect == "at_most_once" and error.kind == "permanent":',
        "if False:",
        (f"{RUNTIME}/test_retries.py",),
    ),
    Build(
        "a policy may repeat what failed for good",
        "runtime/driving/outcomes.py",
        'return Fail(error.code, NEVER) if error.kind == "permanent" else verdict',
        "return verdict",
        (f"{RUNTIME}/test_retries.py",),
    ),
    Build(
        "retry without end",
        "runtime/driving/outcomes.py",
        "if attempt + 1 >= MAX_ATTEMPTS or (",
        "if (",
        (f"{RUNTIME}/test_retries.py",),
    ),
    # Guards belong to requests, never to outcomes.
    Build(
        "an outcome is lost with the request beside it",
        "runtime/driving/driver.py",
        "        await self._commit_outcomes(batch)\n\n    async def _commit_outcomes",
        "\n    async def _commit_outcomes",
        (f"{RUNTIME}/test_commits.py",),
    ),
    Build(
        "a stop is lost with the request beside it",
        "runtime/driving/driver.py",
        "takewhile(lambda event: isinstance(event, _HAPPENED), batch.events)",
        "event for event in batch.events if isinstance(event, ENDS_OF_ATTEMPTS)",
        (f"{RUNTIME}/test_commits.py",),
    ),
    Build(
        "what is known is lost with a plan that breaks off",
        "runtime/driving/driver.py",
        "                    await self._keep_outcomes()\n",
        "                    pass\n",
        (f"{RUNTIME}/test_broken_plans.py",),
        quick=True,
    ),
    Build(
        "an outcome needs a running run",
        "kernel/append.py",
        'if entry is None or entry.phase == "unknown":\n        raise InvalidInput(',
        "if head.cancel_seq or not entry:\n        raise InvalidInput(",
        (f"{KERNEL}/test_append.py",),
    ),
    # A draft is taken only where the store would have come to the same rows.
    Build(
        "a draft is taken wherever the run stands",
        "kernel/append.py",
        "if head.hash != self._began or not self._epoch or head.epoch != self._epoch:",
        "if not self._epoch or head.epoch != self._epoch:",
        (f"{KERNEL}/test_draft.py",),
    ),
    Build(
        "a draft is taken under an old claim",
        "kernel/append.py",
        "if head.hash != self._began or not self._epoch or head.epoch != self._epoch:",
        "if head.hash != self._began:",
        (f"{KERNEL}/test_draft.py",),
    ),
    Build(
        "a draft holds what an append would refuse",
        "kernel/append.py",
        "            except GatebookError:\n                self._sound = False\n",
        "            except GatebookError:\n                pass\n",
        (f"{KERNEL}/test_draft.py",),
    ),
    Build(
        "a draft moves time",
        "kernel/append.py",
        "return _may_stamp(self._time, head, now if now > head.time else head.time)",
        "return True",
        (f"{KERNEL}/test_draft.py",),
    ),
    Build(
        "a worker believes bytes that were changed",
        "journals/sqlite_reads.py",
        "    if hash != anchor:\n",
        "    if False:\n",
        ("tests/journals/test_sqlite_faults.py",),
    ),
    Build(
        "an event is acknowledged before the disk has it",
        "journals/sqlite_members.py",
        "    lasts = True  #",
        "    lasts = False  #",
        ("tests/journals/test_sqlite_pieces.py",),
    ),
    Build(
        "what comes after a commit that failed counts as a part of it",
        "journals/sqlite_writer.py",
        "            kept = done or scribe.doubts(members)\n",
        "            kept = done or scribe._doubt is not None\n",
        ("tests/journals/test_sqlite_writer.py",),
    ),
    Build(
        "a request is not guarded by its budget inside the append",
        "kernel/append.py",
        "        short = shortfall(head.limits, head.used, event.reserve)\n",
        "        short = None\n",
        (f"{KERNEL}/test_append.py",),
    ),
    Build(
        "a request after a cancel",
        "kernel/append.py",
        "if head.cancel_seq is not None or head.status is not RUNNING:",
        "if False:",
        (f"{KERNEL}/test_append.py",),
        quick=True,
    ),
    # What was planned on events that are not in the journal is thrown away.
    Build(
        "a refused plan is kept",
        "runtime/driving/driver.py",
        "                planner = await self._load()\n",
        "",
        (f"{RUNTIME}/test_signals.py", f"{RUNTIME}/test_commits.py"),
    ),
    Build(
        "the seq is not compared",
        "kernel/append.py",
        "if batch.after is not None and batch.after != head.seq:",
        "if False:",
        (f"{KERNEL}/test_append.py",),
    ),
    # Who may append what without a claim.
    Build(
        "anybody may append anything",
        "kernel/append.py",
        "if batch.epoch is None and not isinstance(event, EXTERNAL) and head.status is not",
        "if False and head.status is not",
        (f"{KERNEL}/test_append.py",),
    ),
    Build(
        "anything may be resolved",
        "kernel/append.py",
        'if entry is None or entry.phase != "unknown":',
        "if entry is None:",
        (f"{KERNEL}/test_append.py",),
    ),
    Build(
        "no fence",
        "kernel/append.py",
        "if batch.epoch is not None and (batch.epoch != head.epoch or batch.epoch == 0):",
        "if False:",
        (f"{KERNEL}/test_append.py",),
    ),
    # Secrets.
    Build(
        "results are stored as they came",
        "runtime/performing/executor.py",
        "clean = self._redactor.json(output)",
        "clean = output",
        (f"{RUNTIME}/test_redaction.py",),
        quick=True,
    ),
    Build(
        "an error is cut before it is redacted",
        "runtime/performing/cleaning.py",
        "redactor.told(text_of(error))",
        "redactor.told(text_of(error)[:MAX_ERROR_TEXT])",
        (f"{RUNTIME}/test_redaction.py",),
    ),
    Build(
        "arguments with a secret run redacted",
        "kernel/gate.py",
        "        if clean != final:  # what",
        "        if final != final:  # what",
        (f"{KERNEL}/test_gate.py",),
    ),
    Build(
        "a refused action is stored as it was asked",
        "kernel/refusals.py",
        "        action = redacted(self.action, grounds.redactor, grounds.tools)\n",
        "        action = self.action\n",
        (f"{KERNEL}/test_gate.py",),
    ),
    # What is executed is what is stored.
    Build(
        "a tool gets what the program asked for",
        "runtime/performing/attempts.py",
        "            work = self._perform(flight, want, planner)\n",
        "            kept = {name: getattr(request, name) for name in request.__struct_fields__}\n"
        "            flight.request = ActionRequested(**kept | {'action': want.action})\n"
        "            work = self._perform(flight, want, planner)\n",
        (f"{RUNTIME}/test_gated.py",),
    ),
    # What an end means.
    Build(
        "a doubtful at_most_once attempt has failed",
        "runtime/driving/outcomes.py",
        'if doubtful and effect == "at_most_once":',
        "if False:",
        (f"{RUNTIME}/test_outcomes.py",),
        quick=True,
    ),
    Build(
        "a broken connection has failed",
        "runtime/performing/executor.py",
        'kind="transient"), doubtful=True)',
        'kind="transient"))',
        (f"{RUNTIME}/test_outcomes.py",),
    ),
    Build(
        "a timeout has failed",
        "runtime/performing/executor.py",
        "return outlived(permit.request)",
        "return msgspec.structs.replace(outlived(permit.request), doubtful=False)",
        (f"{RUNTIME}/test_outcomes.py",),
    ),
    Build(
        "on_error is not asked",
        "runtime/performing/executor.py",
        'doubtful = spec.on_error == "unknown" or leaves_open(exc)',
        "doubtful = leaves_open(exc)",
        (f"{RUNTIME}/test_outcomes.py",),
    ),
    Build(
        "transport errors are ordinary ones",
        "runtime/performing/executor.py",
        'doubtful = spec.on_error == "unknown" or leaves_open(exc)',
        'doubtful = spec.on_error == "unknown"',
        (f"{RUNTIME}/test_outcomes.py",),
    ),
    Build(
        "a task group's lost connection is a failure",
        "runtime/performing/ended.py",
        "    if isinstance(exc, BaseExceptionGroup):\n",
        "    if False:\n",
        (f"{RUNTIME}/test_outcomes.py",),
    ),
    Build(
        "doubt ends with the next attempt",
        "runtime/driving/outcomes.py",
        'if effect == "idempotent" and (doubtful or doubted):',
        'if effect == "idempotent" and doubtful:',
        (f"{RUNTIME}/test_outcomes.py",),
    ),
    Build(
        "a retry after output was shown",
        "runtime/driving/outcomes.py",
        " or (isinstance(error, ProviderError) and not retryable(error)):",
        ":",
        (f"{RUNTIME}/test_streams.py",),
    ),
    # Permits and leases.
    Build(
        "a permit is good twice",
        "runtime/performing/permits.py",
        "        self._used = True\n",
        "",
        (f"{RUNTIME}/test_permits.py",),
    ),
    Build(
        "a permit outlives its lease",
        "runtime/performing/permits.py",
        "elif now >= self.held.fresh_until:",
        "elif False:",
        (f"{RUNTIME}/test_permits.py",),
    ),
    Build(
        "a lease is looked at before secrets are read",
        "runtime/performing/executor.py",
        "now = self.monotonic() if spec.secrets else began",
        "now = began",
        (f"{RUNTIME}/test_permits.py",),
    ),
    Build(
        "a run claimed anew leaves its old lease good",
        "runtime/leases.py",
        "                self._drop(run)\n",
        "",
        (f"{RUNTIME}/test_leases.py",),
    ),
    Build(
        "a lease is trusted for its whole life",
        "runtime/leases.py",
        "self._fresh_s = ttl_s / 2",
        "self._fresh_s = ttl_s",
        (f"{RUNTIME}/test_leases.py",),
        quick=True,
    ),
    Build(
        "a lost lease is not asked about",
        "runtime/performing/attempts.py",
        "if not self._held.fresh() and not await self._renewed():",
        "if False:",
        (f"{RUNTIME}/test_leases.py",),
    ),
    Build(
        "late outcomes are dropped",
        "runtime/driving/driver.py",
        "            await self._note_late_outcomes()\n",
        "",
        (f"{RUNTIME}/test_leases.py",),
    ),
    # Recovery.
    Build(
        "a lost at_most_once action is sent again",
        "runtime/driving/planner.py",
        'if request.effect == "at_most_once":',
        "if False:",
        (f"{RUNTIME}/test_recovery.py",),
    ),
    Build(
        "a poison action goes on killing",
        "runtime/driving/planner.py",
        "elif entry.lost >= MAX_LOST:",
        "elif False:",
        (f"{RUNTIME}/test_recovery.py",),
    ),
    Build(
        "a lost attempt is free",
        "kernel/head.py",
        "        self._settle(entry, None)  # a lost attempt is charged at its reservation\n",
        "        self._settle(entry, NOTHING)\n",
        (f"{RUNTIME}/test_recovery.py",),
    ),
    Build(
        "a recovery does not count as one",
        "kernel/head.py",
        'lost = entry.lost + (event.cause == "recovery")',
        "lost = entry.lost",
        (f"{RUNTIME}/test_recovery.py",),
    ),
    Build(
        "the key changes with the worker",
        "runtime/performing/permits.py",
        "idempotency_key(run.tenant, run.id, nonce, self.request.address)",
        "idempotency_key(run.tenant, run.id, nonce, str(self.held.lease.epoch))",
        (f"{RUNTIME}/test_recovery.py",),
    ),
    # Parking.
    Build(
        "a parked run forgets its time",
        "runtime/driving/driver.py",
        "return self._park(planner, wake_at=due)",
        "return self._park(planner, wake_at=None)",
        (f"{RUNTIME}/test_parking.py",),
    ),
    Build(
        "a run parks over news",
        "runtime/driving/driver.py",
        "        except Conflict:\n            self._touched = True\n            return None\n",
        '        except Conflict:\n            return Parked("waiting", wake_at)\n',
        (f"{RUNTIME}/test_parking.py",),
    ),
    # Decisions, budgets, cancels, programs.
    Build(
        "whatever is true is an allow",
        "kernel/decisions.py",
        "    if type(decision) is not Decision:\n",
        "    if decision is True:\n        decision = Decision.allow()\n"
        "    if type(decision) is not Decision:\n",
        (f"{KERNEL}/test_gate.py",),
    ),
    Build(
        "siblings reserve apart",
        "kernel/spending/reserving.py",
        "shortfall(head.limits, head.used, want)",
        "shortfall(head.limits, head.spent, want)",
        (f"{KERNEL}/test_gate.py",),
    ),
    Build(
        "modified arguments are not decided again",
        "kernel/gate.py",
        "        patch = joined(patch, decision)\n",
        "        patch, decision = joined(patch, decision), Decision.allow()\n        break\n",
        (f"{KERNEL}/test_gate.py",),
    ),
    Build(
        "what no event can hold is written down",
        "kernel/decisions.py",
        " and (odd := _unfit(decision)):\n",
        " and (odd := _unfit(decision)) is None:\n",
        (f"{KERNEL}/test_odd_decisions.py",),
    ),
    Build(
        "a cancel does not reach what runs",
        "runtime/driving/driver.py",
        "        if ending.begun:\n            self._attempts.cancel()\n",
        "",
        (f"{RUNTIME}/test_cancel.py",),
    ),
    Build(
        "a fan-out that fills several appends",
        "runtime/replay.py",
        "        if len(wants) > 1:\n",
        "        if False:\n",
        (f"{RUNTIME}/test_planner.py",),
    ),
    Build(
        "a workflow sees the loop",
        "runtime/driving/off_loop.py",
        "        _set_running_loop(None)\n",
        "        pass\n",
        (f"{RUNTIME}/test_off_loop.py",),
    ),
    Build(
        "a start is registered before policy is asked",
        "runtime/client.py",
        "        started = starts.decide(program, value, started, key=key)\n"
        "        input_hash = digest(program.name, bytes(given))\n"
        "        row = await journal.create(key, started, input_hash=input_hash)\n",
        "        input_hash = digest(program.name, bytes(given))\n"
        "        row = await journal.create(key, started, input_hash=input_hash)\n"
        "        started = starts.decide(program, value, started, key=key)\n",
        (f"{RUNTIME}/test_start.py",),
    ),
    Build(
        "a policy is told that every retry only reads",
        "kernel/gate.py",
        'effect: Effect = "read" if spec is None else spec.effect\n        context = ',
        'effect: Effect = "read"\n        context = ',
        (f"{KERNEL}/test_gate.py",),
    ),
    Build(
        "a run wakes for its latest timer",
        "kernel/state.py",
        "(soonest is None or entry.due < soonest)",
        "True",
        (f"{KERNEL}/test_state.py",),
    ),
)
