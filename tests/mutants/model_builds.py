"""The broken builds of model calls: prices, routes, streams, typed answers; see `builds`."""

from tests.mutants.builds import KERNEL, RUNTIME, Build

PROGRAMS = "tests/programs"
CONFORMANCE = "tests/conformance"
PROVIDERS = "tests/providers"

MODEL_BUILDS = (
    # What a call costs.
    Build(
        "an unknown price is a price of nothing",
        "runtime/performing/executor.py",
        "            priced = tokens if reserve.priced_tokens else 0\n",
        "            priced = tokens\n",
        (f"{RUNTIME}/test_costs.py",),
    ),
    Build(
        "a model of unknown price passes a limit in dollars",
        "kernel/spending/reserving.py",
        '        raise GatebookError("E_PRICE_UNKNOWN", tool=action.route)\n',
        "        return Price(0, 0)\n",
        (f"{RUNTIME}/test_costs.py",),
        quick=True,
    ),
    Build(
        "an unmeasured answer is free",
        "kernel/budget.py",
        "        found = cost(price, estimated(action))\n",
        "        found = 0\n",
        (f"{RUNTIME}/test_costs.py", f"{KERNEL}/test_budget.py"),
    ),
    Build(
        "fractions of a micro-dollar are dropped",
        "kernel/spending/prices.py",
        "    return -(-whole // MICRO)\n",
        "    return whole // MICRO\n",
        (f"{KERNEL}/test_prices.py",),
    ),
    Build(
        "what a cache read is paid twice",
        "kernel/spending/prices.py",
        "fresh = max(0, into - read - written)",
        "fresh = max(0, into - written)",
        (f"{KERNEL}/test_prices.py",),
    ),
    Build(
        "zero tokens are a measurement",
        "kernel/budget.py",
        "if not total or any(",
        "if total is None or any(",
        (f"{KERNEL}/test_budget.py", f"{RUNTIME}/test_budgets.py"),
    ),
    Build(
        "a fallback is charged at the price of the first route",
        "runtime/performing/executor.py",
        "                called = request.action.on(permit.route)\n",
        "                called = request.action\n",
        (f"{RUNTIME}/test_fallback_gate.py",),
    ),
    Build(
        "a fallback reserves at the price of the first route",
        "runtime/driving/planner.py",
        "            action = action.on(entry.route)\n",
        "            pass\n",
        (f"{RUNTIME}/test_fallback_gate.py",),
    ),
    Build(
        "an answer may be longer than what was reserved",
        "kernel/budget.py",
        "        return estimated(action).output_tokens\n",
        "        return action.max_output_tokens\n",
        (f"{RUNTIME}/test_answer_limit.py",),
    ),
    # Routes and retries.
    Build(
        "a fallback asks the first route again",
        "runtime/performing/executor.py",
        "        action = action.on(permit.route)\n        fields",
        "        fields",
        (f"{RUNTIME}/test_fallback.py",),
    ),
    Build(
        "after output another route is asked",
        "runtime/driving/outcomes.py",
        'or error.fields.get("emitted", False):',
        "or False:",
        (f"{RUNTIME}/test_fallback.py",),
    ),
    Build(
        "any error moves on",
        "runtime/driving/outcomes.py",
        "    if error.category in ELSEWHERE or (given_up and retryable(error)):\n",
        "    if True:\n",
        (f"{RUNTIME}/test_fallback.py",),
    ),
    Build(
        "a quota is a rate limit",
        "kernel/classify.py",
        '    if status == 402 or any(name in QUOTA_CODES or "_spend_limit_" in name'
        " for name in fault.names):\n",
        "    if False:\n",
        (f"{CONFORMANCE}/test_classification.py",),
    ),
    Build(
        "an SDK retries too",
        "providers/openai_responses.py",
        "            max_retries=0,\n",
        "",
        (f"{CONFORMANCE}/test_retries.py",),
    ),
    Build(
        "another SDK retries too",
        "providers/anthropic.py",
        "            max_retries=0,\n",
        "",
        (f"{CONFORMANCE}/test_retries.py",),
    ),
    # Streams and connections.
    Build(
        "a clean end is the end of an answer",
        "providers/chat_stream.py",
        "                raise self._truncated(answer)\n",
        "                pass\n",
        (f"{CONFORMANCE}/test_stream_ends.py", f"{PROVIDERS}/test_chat_stream.py"),
    ),
    Build(
        "a stream of an SDK is not closed",
        "providers/sdk.py",
        "            await opened.close()\n",
        "            pass\n",
        (f"{CONFORMANCE}/test_cancellation.py",),
    ),
    Build(
        "a connection is used again that its server is about to close",
        "providers/transport.py",
        '    return not response.headers.get("server", "").startswith(HANGS_UP)\n',
        "    return True\n",
        (f"{PROVIDERS}/test_connections.py",),
    ),
    Build(
        "making a client is the provider's time",
        "providers/chat_stream.py",
        "        await self._ready()\n",
        "",
        (f"{PROVIDERS}/test_connections.py",),
    ),
    Build(
        "a tool call goes on under another name",
        "kernel/streams/fragments.py",
        "        if name and call.name and name != call.name:\n",
        "        if False:\n",
        (f"{KERNEL}/test_fragments.py",),
    ),
    Build(
        "an id begins a call whatever the index says",
        "kernel/streams/fragments.py",
        "        if call is not None and index is not None and not name:\n",
        "        if False:\n",
        (f"{KERNEL}/test_fragments.py",),
    ),
    # Typed answers.
    Build(
        "a JSON Schema is not checked here",
        "programs/outputs.py",
        "        problems = self._check.problems(value)\n        if problems:\n"
        "            self._unfit(_under(under, problems))\n        return canonical(value)\n",
        "        return canonical(value)\n",
        (f"{PROGRAMS}/test_typed_output.py", f"{PROGRAMS}/test_typed_output_values.py"),
    ),
    Build(
        "an agent repairs without end",
        "programs/turns.py",
        "            elif self._repairs >= MAX_REPAIRS or self._turn",
        "            elif self._turn",
        (f"{PROGRAMS}/test_typed_output.py",),
    ),
    Build(
        "a workflow repairs without end",
        "programs/acts.py",
        "        if self.repairs >= MAX_REPAIRS:\n",
        "        if self.repairs >= 9:\n",
        (f"{PROGRAMS}/test_typed_output.py", f"{PROGRAMS}/test_typed_output_runs.py"),
    ),
    Build(
        "a repair repeats the candidate",
        "programs/problems.py",
        '        text = re.sub(rf"(?<!\\w){re.escape(leaf)}(?!\\w)", CUT, text)\n',
        "",
        (f"{PROGRAMS}/test_typed_output_values.py", f"{PROGRAMS}/test_typed_output.py"),
    ),
    Build(
        "a $ref may leave the schema",
        "programs/output_schema.py",
        '    if not isinstance(target, str) or not target.startswith("#"):\n'
        '        raise _reference(program, place, "a $ref outside the schema is never fetched",'
        " target)\n    if target not in places:\n",
        "    if False:\n",
        (f"{PROGRAMS}/test_typed_output_schemas.py",),
    ),
    Build(
        "a schema of any size is taken",
        "programs/output_schema.py",
        "    if size > MAX_BYTES:\n        raise _too_large(size, program)\n",
        "",
        (f"{PROGRAMS}/test_typed_output_schemas.py",),
    ),
    Build(
        "the first JSON among other words is the answer",
        "programs/outputs.py",
        "    if not text.startswith(FENCE) or not text.endswith(FENCE)",
        "    text = text[text.find(FENCE):]\n    if not text.startswith(FENCE)",
        (f"{PROGRAMS}/test_typed_output_values.py", f"{PROGRAMS}/test_typed_output.py"),
    ),
)
