"""Broken builds of secrets, labels, pins and foreign tools."""

from tests.mutants.builds import KERNEL, RUNTIME, Build

ATTACKS = "tests/attacks"

SECRET_BUILDS = (
    # Only a reference is accepted where a secret stands, and nothing else of it is stored.
    Build(
        "a value passes for a reference",
        "kernel/secrets.py",
        '            raise InvalidInput("E_SECRET_LITERAL", tool=spec.name, path=parameter)\n',
        "            continue\n",
        (f"{RUNTIME}/test_secret_references.py",),
    ),
    Build(
        "a value that was refused is stored",
        "kernel/refusals.py",
        "            args = without_literals(action.args, secret)\n",
        "            args = action.args\n",
        (f"{RUNTIME}/test_secret_references.py",),
        quick=True,
    ),
    Build(
        "a secret that there is none of is asked for",
        "kernel/secrets.py",
        "        if name not in known:\n",
        "        if False:\n",
        (f"{RUNTIME}/test_secret_references.py",),
    ),
    Build(
        "the redactor does not learn what is lent",
        "runtime/performing/secrets.py",
        "        self._redactor.add(_telling(value))\n",
        "",
        (f"{RUNTIME}/test_secret_leaks.py",),
    ),
    Build(
        "a value that a running tool holds is forgotten",
        "runtime/performing/secrets.py",
        "(old for old in latest if not self._about[old])",
        "iter(latest)",
        (f"{RUNTIME}/test_secret_leaks.py",),
    ),
    Build(
        "an approver may write a value into a reference's place",
        "runtime/runs/approvals.py",
        "        keep_references(approval.arguments, edit, tool=what)\n",
        "",
        (f"{ATTACKS}/test_approvals.py",),
    ),
    Build(
        "a log filter leaves tracebacks as they are",
        "runtime/logs.py",
        "            record.exc_text = self._redactor.told(record.exc_text)\n",
        "            pass\n",
        (f"{RUNTIME}/test_secret_leaks.py",),
    ),
    Build(
        "an error's code is recorded as it came",
        "runtime/performing/cleaning.py",
        "    if redactor.text(error.code) != error.code:\n",
        "    if False:\n",
        (f"{RUNTIME}/test_secret_leaks.py",),
    ),
    Build(
        "a run id may hold a secret",
        "runtime/client.py",
        '        self._check_names("the run id", run_id)\n',
        "",
        (f"{RUNTIME}/test_secret_leaks.py",),
    ),
    # Labels fall only by an endorsement, and only as far as somebody looked.
    Build(
        "an endorsement covers what came later",
        "kernel/rules/facts.py",
        "        if self.brought.get(label, 0) <= upto:\n",
        "        if upto:\n",
        (f"{RUNTIME}/test_labels.py",),
    ),
    Build(
        "what has not happened yet can be endorsed",
        "kernel/append.py",
        "    elif not 0 < event.upto <= head.seq:\n",
        "    elif event.upto < 1:\n",
        (f"{RUNTIME}/test_labels.py",),
    ),
    Build(
        "nobody endorses",
        "kernel/append.py",
        "    if not event.by:\n        detail",
        "    if False:\n        detail",
        (f"{RUNTIME}/test_labels.py",),
    ),
    # A changed tool is a new tool.
    Build(
        "a tool's word for its digest is taken",
        "kernel/pins.py",
        "        now = definition_digest(spec)\n",
        "        now = spec.digest or definition_digest(spec)\n",
        (f"{RUNTIME}/test_pins.py", f"{ATTACKS}/test_swaps.py"),
    ),
    Build(
        "a pin opens what policy closes",
        "kernel/pins.py",
        'NARROWED = ("allow", "modify", "defer")',
        'NARROWED = ("allow", "modify", "defer", "deny", "interrupt")',
        (f"{RUNTIME}/test_pins.py",),
    ),
    Build(
        "a tool that the run began without is old",
        "kernel/pins.py",
        "        if began == now or not self._began:\n",
        "        if began in (now, None):\n",
        (f"{RUNTIME}/test_pins.py",),
    ),
    Build(
        "hidden characters may stand in a text",
        "kernel/tools.py",
        "        if hidden or char in BLANK:\n",
        "        if char in BLANK:\n",
        ("tests/tools/test_flow.py",),
    ),
    # What others wrote is checked as if it were hostile.
    Build(
        "a foreign tool's result goes into the journal as it is",
        "programs/foreign.py",
        '            return canonical(parse(output, what="result"), what="result")\n',
        "            return output\n",
        (f"{ATTACKS}/test_foreign_tools.py",),
    ),
    Build(
        "a foreign tool's arguments are taken as they are",
        "programs/foreign.py",
        '        return canonical(value, what="arguments")\n',
        "        return final + b' '\n",
        (f"{ATTACKS}/test_bypass.py", f"{KERNEL}/test_gate.py"),
    ),
    Build(
        "a workflow may call a tool itself",
        "kernel/stepping.py",
        "    if program := STEPPED.get():\n",
        '    if program := "":\n',
        (f"{ATTACKS}/test_bypass.py",),
        quick=True,
    ),
)
