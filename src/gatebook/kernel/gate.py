"""The gate: one order, no way round it, from a want to a request or a refusal.

validate -> decide -> (changed: validate and decide again) -> refuse secrets -> reserve. A prompt
that holds a secret is invalid, and so is a signal's name; arguments may be rid of theirs by a
change, so the final ones count.
Pure: the append checks the budget once more inside its transaction, and only a committed request
makes the permit an executor needs. Called by `approvals.consent`, which adds people, grants and
deferrals.
"""

from collections.abc import Callable

import msgspec

from gatebook.errors import EXITS, GatebookError, InvalidInput
from gatebook.kernel.actions import Action, CallLLM, CallTool, WaitSignal, describe, rerouted
from gatebook.kernel.budget import NOTHING, Amount
from gatebook.kernel.codec import NULL, Raw
from gatebook.kernel.decisions import (
    ASKING,
    MAX_ROUNDS,
    PLAIN,
    ask,
    is_plain,
    joined,
    recorded,
    strictest_of,
)
from gatebook.kernel.events import ActionRequested
from gatebook.kernel.grounds import Grounds, Validated, context_at
from gatebook.kernel.near import near
from gatebook.kernel.policy import ALLOW, Decision, PolicyContext, offered_by
from gatebook.kernel.records import DecisionRecord, ErrorRecord
from gatebook.kernel.refusals import Refused, denial, refusal, with_policy
from gatebook.kernel.secrets import check_references
from gatebook.kernel.spending.prices import Price
from gatebook.kernel.spending.reserving import in_dollars, price_of, reserve
from gatebook.kernel.spending.soft import softened
from gatebook.kernel.tools import Effect, ToolSpec

Answers = Callable[[Decision], bool]  # whether a person's word answers what a decision asks


def nobody(_: Decision) -> bool:
    """Say that nobody has answered anything."""
    return False


class Again(msgspec.Struct, frozen=True):
    """Whether a further attempt may start.

    Attributes:
        reserve: what it holds of the budget.
        decision: what policy said beside a plain allow.
        refusal: why it may not start, None when it may.
    """

    reserve: Amount
    decision: DecisionRecord | None = None
    refusal: ErrorRecord | None = None


def decide_attempt(
    address: str,
    action: Action,
    attempt: int,
    grounds: Grounds,
    *,
    answers: Answers = nobody,
) -> Again:
    """Decide about a further attempt of a requested action, under the policy in force now.

    A change is a deny here: the action's bytes are fixed by its request. `answers`: by a
    word that is still good.
    """
    try:
        spec = _tool(action, grounds).spec if isinstance(action, CallTool) else None
        effect: Effect = "read" if spec is None else spec.effect
        context = context_at(grounds, address, action, effect)
        context = msgspec.structs.replace(context, attempt=attempt)
        decision = _ask_policy(action, context, spec, grounds)
        if not _may_go_on(decision, action, answers):
            raise denial(action, decision, grounds)
        held, _ = _reserved(action, spec, grounds)
        record = with_policy(recorded(decision, grounds.redactor), grounds)
        return Again(held, record if record.policy or not is_plain(decision) else None)
    except Refused as refused:
        return Again(NOTHING, *refused.told(grounds))


def _may_go_on(decision: Decision, action: Action, answers: Answers) -> bool:
    """Whether a requested action may start again as it is."""
    if decision.verdict == "allow":
        return True
    args = decision.args
    same = args is not None and isinstance(action, CallTool) and bytes(args) == bytes(action.args)
    if decision.verdict == "modify":
        return same
    asks = decision.verdict in ASKING and not decision.defers
    return asks and (args is None or same) and answers(decision)


class Judged(msgspec.Struct, frozen=True, gc=False):
    """What the gate makes of an action before anything is asked or reserved.

    Attributes:
        action: in its final form.
        decision: the strictest of all rounds.
        patch: how policy changed the action, NULL itself for not at all.
    """

    action: Action
    decision: Decision
    context: PolicyContext
    spec: ToolSpec | None
    patch: Raw


def judge(address: str, action: Action, grounds: Grounds) -> Judged:
    """Validate an action and decide about it, to the end.

    Raises:
        Refused: it is invalid, denied, or holds a secret.
    """
    spec: ToolSpec | None = None
    effect: Effect = "read"
    final = b""  # the arguments of a tool call
    if isinstance(action, CallTool):
        action, final, spec = _validated(action, grounds)
        effect = spec.effect
    elif isinstance(action, CallLLM):
        _check_prompt(action, grounds)
    elif isinstance(action, WaitSignal) and grounds.redactor.text(action.name) != action.name:
        raise refusal(action, GatebookError("E_NAME_SECRET", what="the signal's name"))
    strictest: Decision | None = None
    patch = NULL
    for _ in range(MAX_ROUNDS):
        context = context_at(grounds, address, action, effect)
        decision = _ask_policy(action, context, spec, grounds)
        if grounds.soft and decision.verdict == "allow":
            decision = softened(decision, action, grounds.soft, grounds)
        strictest = decision if strictest is None else strictest_of(strictest, decision)
        if decision.args is None or decision.verdict not in CHANGING:
            break
        action, final = _changed(action, decision, grounds)
        patch = joined(patch, decision)
    else:
        raise refusal(
            action, GatebookError("E_MODIFY_LOOP", tool=describe(action), limit=MAX_ROUNDS)
        )
    if isinstance(action, CallTool):
        clean = grounds.redactor.json(final)
        if clean != final:  # what is stored is what is done
            raise _secret(msgspec.structs.replace(action, args=Raw(clean)), clean)
    if strictest.verdict == "deny":
        raise denial(action, strictest, grounds)
    if decision.verdict == "modify":
        raise refusal(action, GatebookError("E_POLICY_DECISION", value="modify without args"))
    return Judged(action, strictest, context, spec, patch)


def decision_record(judged: Judged, grounds: Grounds) -> DecisionRecord:
    """Return a decision as it is journaled, with how it changed the action."""
    plain = judged.decision is ALLOW
    record = PLAIN if plain else recorded(judged.decision, grounds.redactor)
    if judged.patch is NULL:
        return record
    return msgspec.structs.replace(record, patch=grounds.redactor.raw(judged.patch))


def request(
    address: str,
    judged: Judged,
    grounds: Grounds,
    *,
    approval: str = "",
    grant: int = 0,
    answers: Answers = nobody,
) -> ActionRequested:
    """Reserve what an action needs and return its request.

    `approval` or `grant` is what lets it through where its decision does not; `answers` says so
    of its further routes.

    Raises:
        Refused: the budget cannot carry it, or a model call's further route may not be asked.
    """
    action, context, record = judged.action, judged.context, decision_record(judged, grounds)
    if approval or grant:
        record = msgspec.structs.replace(record, approval=approval, grant=grant)
    if judged.spec is None and isinstance(action, CallLLM):
        _check_fallbacks(address, action, grounds, answers)
        if grounds.run is not None and action.tools:
            record = _with_hidden(record, action, context, grounds)
    held, deadline = _reserved(action, judged.spec, grounds)
    return ActionRequested(
        address=address,
        action=action,
        effect=context.effect,
        decision=with_policy(record, grounds),
        reserve=held,
        timeout_ms=deadline,
    )


CHANGING = ("modify", "defer", "ask", "interrupt")  # may come with arguments to use instead


def _changed(action: Action, decision: Decision, grounds: Grounds) -> tuple[Action, bytes]:
    """Return the action with what a policy wants instead, validated, and a call's arguments."""
    assert decision.args is not None
    if isinstance(action, CallTool):
        return _validated(msgspec.structs.replace(action, args=decision.args), grounds)[:2]
    if not isinstance(action, CallLLM):
        raise denial(action, decision, grounds)
    try:
        found = msgspec.json.decode(decision.args, type=Route)
    except msgspec.DecodeError as exc:
        error = GatebookError("E_POLICY_DECISION", value=f"a model call changed to {exc}")
        raise refusal(action, error) from exc
    return rerouted(action, found), b""


class Route(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What of a model call a policy may change."""

    provider: str
    model: str
    max_output_tokens: int | None


def _with_hidden(
    record: DecisionRecord, action: CallLLM, context: PolicyContext, grounds: Grounds
) -> DecisionRecord:
    """Return the record with the tools that the policy keeps from the model."""
    try:
        kept = frozenset(offered_by(grounds.policy, action.tools, context))
    except EXITS:
        raise
    except BaseException as exc:
        error = GatebookError("E_POLICY_ERROR", detail=type(exc).__name__)
        raise refusal(action, error) from exc
    hidden = tuple(name for name in action.tools if name not in kept)
    return msgspec.structs.replace(record, hidden=hidden) if hidden else record


def _tool(action: CallTool, grounds: Grounds) -> Validated:
    tool: Validated | None = grounds.tools.get(action.tool)
    if tool is None:
        meant = near(action.tool, grounds.tools)  # and no list: policy may keep tools from a model
        raise refusal(action, GatebookError("E_TOOL_UNKNOWN", tool=action.tool, near=meant))
    return tool


def _validated(action: CallTool, grounds: Grounds) -> tuple[CallTool, bytes, ToolSpec]:
    """Return a call in its final form, its arguments and what it is a call of."""
    tool = _tool(action, grounds)
    spec, given = tool.spec, bytes(action.args)
    try:
        final = tool.validate(given)
        if spec.secrets:
            check_references(final, spec, grounds.secrets)
    except InvalidInput as exc:
        raise refusal(action, exc) from exc
    if final != given:
        action = msgspec.structs.replace(action, args=Raw(final))
    return action, final, spec


def _check_prompt(action: CallLLM, grounds: Grounds) -> None:
    data = msgspec.json.encode(action, order="deterministic")
    clean = grounds.redactor.json(data)
    if clean != data:
        raise _secret(msgspec.json.decode(clean, type=CallLLM), clean)


def _secret(action: CallTool | CallLLM, clean: bytes) -> "Refused":
    kinds = sorted({part.split("]")[0] for part in clean.decode().split("[redacted:")[1:]})
    error = GatebookError("E_ARGS_SECRET", tool=describe(action), detail=", ".join(kinds))
    return refusal(action, error)


def _ask_policy(
    action: Action, context: PolicyContext, spec: ToolSpec | None, grounds: Grounds
) -> Decision:
    try:
        decision = ask(grounds.policy.authorize, action, context, watch=grounds.watch)
    except GatebookError as exc:
        raise refusal(action, exc) from exc
    if spec is None or grounds.pins is None:
        return decision
    return grounds.pins.narrowed(decision, spec)


def _check_fallbacks(address: str, action: CallLLM, grounds: Grounds, answers: Answers) -> None:
    """Refuse a model call of which some further route may not be asked, or has no price.

    Each is decided again when it comes to it; one that is refused is better known now.
    """
    for route in action.fallbacks:
        call = action.on(route)
        context = context_at(grounds, address, call, "read")
        try:
            decision = _ask_policy(call, context, None, grounds)
            if not _may_go_on(decision, call, answers):
                raise denial(call, decision, grounds)
            if in_dollars(grounds):
                _known_price(call, grounds)
        except Refused as refused:
            raise Refused(action, refused.decision, refused.error) from refused


def _reserved(action: Action, spec: ToolSpec | None, grounds: Grounds) -> tuple[Amount, int | None]:
    try:
        return reserve(action, spec, grounds)
    except GatebookError as exc:
        raise refusal(action, exc) from exc


def _known_price(action: CallLLM, grounds: Grounds) -> Price:
    try:
        return price_of(action, grounds)
    except GatebookError as exc:
        raise refusal(action, exc) from exc
