"""The broken builds of hooks; see `builds`."""

from tests.mutants.builds import KERNEL, RUNTIME, Build

HOOK_BUILDS = (
    Build(
        "a hook is asked again though its answer is recorded",
        "runtime/hooks/turns.py",
        "        if want.address in self._replay.hooks.answered or BELOW in want.address:\n",
        "        if BELOW in want.address:\n",
        (f"{RUNTIME}/test_hook_crashes.py",),
        quick=True,
    ),
    Build(
        "a hook's answer is applied and not recorded",
        "runtime/hooks/turns.py",
        "                for event in self._hooking.answers[key]:\n"
        "                    add(event)\n",
        "                for event in self._hooking.answers[key]:\n"
        "                    self._replay.feed(event, 0)\n",
        (f"{RUNTIME}/test_hook_before_tool.py", f"{RUNTIME}/test_hook_crashes.py"),
    ),
    Build(
        "an answer is forgotten before it is stored",
        "runtime/hooks/turns.py",
        "                for event in self._hooking.answers[key]:\n"
        "                    add(event)\n",
        "                for event in self._hooking.answers.pop(key):\n"
        "                    add(event)\n",
        (f"{RUNTIME}/test_hook_crashes.py",),
    ),
    Build(
        "a call goes to the gate before its hook has answered",
        "runtime/hooks/turns.py",
        "        self._hooking.ask((subject.point, want.address), subject, self._started)\n"
        "        return False\n",
        "        self._hooking.ask((subject.point, want.address), subject, self._started)\n"
        "        return True\n",
        (f"{RUNTIME}/test_hook_before_tool.py",),
    ),
    Build(
        "a hook that fails closed lets through",
        "kernel/hooks/answers.py",
        'stops=hook.spec.on_failure == "closed"',
        "stops=False",
        (f"{RUNTIME}/test_hook_failures.py",),
    ),
    Build(
        "a hook that fails open refuses",
        "kernel/hooks/answers.py",
        'stops=hook.spec.on_failure == "closed"',
        "stops=True",
        (f"{RUNTIME}/test_hook_failures.py",),
    ),
    Build(
        "a security hook may fail open",
        "kernel/hooks/declared.py",
        '    if security and on_failure == "open":\n',
        "    if False:\n",
        (f"{KERNEL}/test_hook_declarations.py",),
    ),
    Build(
        "a hook changes what it may only look at",
        "kernel/hooks/answers.py",
        '    if "change" not in rights:\n',
        "    if False:\n",
        (f"{KERNEL}/test_hook_answers.py",),
    ),
    Build(
        "a hook that hangs holds the run",
        "runtime/hooks/calling.py",
        "asyncio.wait({call}, timeout=limit_ms / 1000)",
        "asyncio.wait({call})",
        (f"{RUNTIME}/test_hook_failures.py",),
    ),
    Build(
        "a blocking hook holds the loop",
        "runtime/hooks/calling.py",
        "            return await run_in_thread(\n"
        "                partial(_blocking, hook, subject, view, self.redactor),\n",
        "            return _blocking(hook, subject, view, self.redactor)\n"
        "            return await run_in_thread(\n"
        "                partial(_blocking, hook, subject, view, self.redactor),\n",
        (f"{RUNTIME}/test_hook_runtime.py",),
    ),
    Build(
        "a withheld result is tried again or unknown",
        "runtime/driving/outcomes.py",
        '    if ended.answers and error.code == "E_HOOK_WITHHELD":',
        "    if False:",
        (f"{RUNTIME}/test_hook_models.py",),
    ),
    Build(
        "a cancel while a hook looks at a result makes it unknown",
        "runtime/hooks/calling.py",
        "                except asyncio.CancelledError:\n                    stopped = True\n",
        "                except ZeroDivisionError:\n                    stopped = True\n",
        (f"{RUNTIME}/test_hook_cancelling.py",),
    ),
    Build(
        "a tool's deadline ends the hook after it",
        "runtime/performing/attempts.py",
        "            flight.until = None  # what it was given is over;",
        "            pass  # what it was given is over;",
        (f"{RUNTIME}/test_hook_cancelling.py",),
    ),
    Build(
        "a cancel does not reach a hook",
        "runtime/hooks/turns.py",
        "        if status is Status.CANCELLING:\n            self._stop_asking()\n",
        "        if status is Status.CANCELLING:\n            pass\n",
        (f"{RUNTIME}/test_hook_cancelling.py",),
    ),
    Build(
        "an answer that a hook will change is shown while it is written",
        "runtime/runtime.py",
        "            holds = _always\n",
        "            pass\n",
        (f"{RUNTIME}/test_hook_models.py",),
    ),
    Build(
        "a run goes on without its security hooks",
        "runtime/driving/driver.py",
        "        if started.guards and await self._parking.refuse_unguarded(started, past.seq):\n",
        "        if False:\n",
        (f"{RUNTIME}/test_hook_guards.py",),
    ),
    Build(
        "what a hook refused is forgotten without it",
        "runtime/driving/driver.py",
        "        if self._hooking or replay.hooks.refuses:",
        "        if self._hooking:",
        (f"{RUNTIME}/test_hook_handover.py",),
    ),
    Build(
        "a secret that a hook puts into a call is stored",
        "kernel/hooks/subjects.py",
        "    if redactor.json(bytes(change)) != bytes(change):\n",
        "    if False:\n",
        (f"{KERNEL}/test_hook_answers.py",),
    ),
    Build(
        "a hook's reason is stored as it is",
        "kernel/hooks/answers.py",
        "redactor.text(reason[:MAX_REASON])",
        "(reason[:MAX_REASON])",
        (f"{KERNEL}/test_hook_answers.py",),
    ),
    Build(
        "hooks are asked about what hooks do",
        "runtime/hooks/turns.py",
        " or BELOW in want.address:",
        ":",
        (f"{RUNTIME}/test_hook_acts.py",),
    ),
    Build(
        "a hook that acts otherwise is given what is recorded",
        "runtime/replay.py",
        "        return self._agrees(event, want.action)\n",
        "        return True\n",
        (f"{RUNTIME}/test_hook_acts.py",),
    ),
    Build(
        "a hook acts without the right to",
        "runtime/hooks/acts.py",
        '            if "act" not in hook.spec.rights:\n',
        "            if False:\n",
        (f"{RUNTIME}/test_hook_acts.py",),
    ),
    Build(
        "a run that stopped waits for its hooks",
        "runtime/hooks/turns.py",
        "            self._hooking.cancel_acting()\n",
        "            pass\n",
        (f"{RUNTIME}/test_hook_approvals.py",),
    ),
    Build(
        "a worker that stops loses results that hooks look at",
        "runtime/driving/planner.py",
        "                self._admit(quiet=True)\n",
        "                pass\n",
        (f"{RUNTIME}/test_hook_acts.py",),
    ),
    Build(
        "people are asked about what no hook waits for",
        "kernel/approvals/standing.py",
        "HEAD_FOLDS[HookAnswered] = fold_hook_answered\n",
        "",
        (f"{RUNTIME}/test_hook_approvals.py",),
    ),
    Build(
        "a hook acts after its answer",
        "runtime/hooks/acts.py",
        "            if answered():\n",
        "            if False:\n",
        (f"{RUNTIME}/test_hook_approvals.py",),
    ),
    Build(
        "what is sent instead is not in the action",
        "kernel/hooks/subjects.py",
        "prompt = msgspec.structs.replace(self.action.prompt, sent=sent, size=size)",
        "prompt = self.action.prompt",
        (f"{KERNEL}/test_hook_answers.py",),
    ),
)
