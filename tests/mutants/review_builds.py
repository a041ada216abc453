"""Broken builds of what is said of results, and of policies looked at afterwards."""

from tests.mutants.builds import KERNEL, RUNTIME, Build

RESULTS = (f"{RUNTIME}/test_result_rules.py", f"{RUNTIME}/test_result_rules_models.py")
BACKTEST = (f"{RUNTIME}/test_backtest.py",)
DECISIONS = (f"{KERNEL}/review/test_decisions.py",)
NARROWEST = (f"{KERNEL}/review/test_narrowest.py",)
DIFFERENCES = (f"{KERNEL}/review/test_differences.py",)

REVIEW_BUILDS = (
    # What a policy says about a result stands before anything has seen it.
    Build(
        "a result that is withheld is stored all the same",
        "runtime/driving/results.py",
        "        return replace(ended, output=NULL, artifact=None)\n",
        "        return ended\n",
        RESULTS,
    ),
    Build(
        "the whole of a result is gone once it was looked at",
        "runtime/driving/results.py",
        "        return _seen(ended, judged), judged\n",
        "        ended.output = _seen(ended, judged).output\n        return ended, judged\n",
        RESULTS,
    ),
    Build(
        "an error while a result is judged lets it pass",
        "kernel/results.py",
        "        strictest, patch = Decision.deny(str(exc)), NULL\n",
        "        strictest, patch = Decision.allow(), NULL\n",
        RESULTS,
    ),
    Build(
        "what has become of a changed result is all that counts",
        "kernel/results.py",
        "            if strictest is None or is_stricter(decision, strictest):\n",
        "            if True:\n",
        RESULTS,
    ),
    Build(
        "labels of a result come from the last word only",
        "kernel/results.py",
        "            labels.update(decision.labels)\n",
        "            labels = set(decision.labels)\n",
        (f"{KERNEL}/test_results.py",),
    ),
    Build(
        "a model's answer is changed into anything",
        "kernel/results.py",
        "    if isinstance(action, CallLLM):\n        try:\n",
        "    if False:\n        try:\n",
        RESULTS,
    ),
    # A backtest answers as the policy would have, knowing what was known.
    Build(
        "a backtest forgets the budget",
        "kernel/review/again.py",
        "    if found.verdict not in PASSING or short is None:\n",
        "    if True:\n",
        BACKTEST,
    ),
    Build(
        "a backtest lets a policy undercut a soft limit",
        "kernel/review/again.py",
        "    if stricter(found.verdict, decided.floor) == found.verdict or",
        "    if True or",
        DECISIONS,
    ),
    Build(
        "a backtest looks at the first route only",
        "kernel/review/again.py",
        "    for request in decided.requests[1:]:\n",
        "    for request in ():\n",
        DECISIONS,
    ),
    Build(
        "a backtest passes what a policy pins otherwise",
        "kernel/review/again.py",
        "    if pin and decided.pin and not decided.pin.startswith(pin)",
        "    if False and not decided.pin.startswith(pin)",
        DECISIONS,
    ),
    Build(
        "a decision is looked at with what came after it",
        "kernel/review/decisions.py",
        "            past, seen=set(past.seen), counts=dict(past.counts), ",
        "            past, ",
        DECISIONS,
    ),
    Build(
        "what a person refused is put down to the policy",
        "kernel/review/decisions.py",
        "    if record.code.startswith(OF_OTHERS):\n",
        "    if False:\n",
        DECISIONS,
    ),
    # A drafted rule is about the one refused action.
    Build(
        "a drafted rule lets further arguments in",
        "kernel/review/narrowest.py",
        "        if name not in request.args:\n",
        "        if False:\n",
        NARROWEST,
    ),
    Build(
        "a drafted rule is for every user",
        "kernel/review/narrowest.py",
        "    if request.user is not None:\n",
        "    if False:\n",
        NARROWEST,
    ),
    Build(
        "a drafted rule waits for the words that hide a secret",
        "kernel/review/narrowest.py",
        "        if REDACTED in value:\n",
        "        if False:\n",
        NARROWEST,
    ),
    Build(
        "a drafted rule is for longer lists too",
        "kernel/review/narrowest.py",
        '        yield path, {"type": "array", "size": {"eq": len(value)}}\n',
        '        yield path, {"type": "array"}\n',
        NARROWEST,
    ),
    # A comparison says which way a policy moved.
    Build(
        "a higher limit is called less",
        "kernel/review/differences.py",
        "after > before)\n",
        "after < before)\n",
        DIFFERENCES,
    ),
    Build(
        "a rule that lost a condition is called no wider",
        "kernel/review/differences.py",
        '        return "less" if added == (new.then == "allow") else "more"\n',
        '        return "either"\n',
        DIFFERENCES,
    ),
    Build(
        "a text and a number that look alike are the same condition",
        "kernel/review/differences.py",
        "{test.op} {toml(test.operand)}",
        "{test.op} {test.operand}",
        DIFFERENCES,
    ),
)
