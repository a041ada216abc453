"""`gatebook policy explain`: which rule decides, which facts it saw, what would allow it."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click
import msgspec

from gatebook.cli.apps import App, beside, load_policy, remembered_of
from gatebook.cli.options import Given, Verb, common, read_json, read_labels
from gatebook.cli.output import document, on_terminal, safe, say, table
from gatebook.cli.policies.files import settings_app
from gatebook.cli.policies.recorded import Declared, read_run, specs, validator
from gatebook.cli.store import LAST
from gatebook.errors import ConfigError, InvalidInput
from gatebook.kernel.budget import NOTHING, Limits
from gatebook.kernel.codec import canonical, plain
from gatebook.kernel.review.again import PASSING, Answer, answer, limits_of
from gatebook.kernel.review.decisions import Decided, Told, decisions
from gatebook.kernel.rules.document import Document
from gatebook.kernel.rules.explain import Explanation, Looked, explain
from gatebook.kernel.rules.facts import History, Left, Request, ToolFacts, tool_facts
from gatebook.kernel.rules.match import Rulebook
from gatebook.kernel.rules.views import View
from gatebook.ports import DEFAULT_TENANT, RunRow, Tool
from gatebook.runtime.policy_files import document_of

SIGNS = {True: "yes", False: "no", None: "unknown"}


@click.command(
    cls=Verb,
    examples=(
        "gatebook policy explain @last#5",
        "gatebook policy explain order-17#5 --policy stricter.toml",
        "gatebook policy explain refund --args '{\"amount\": 900}' --policy policy.toml",
        "gatebook policy explain openai:gpt-5-mini --est-tokens 9000 --policy policy.toml",
    ),
)
@click.argument("action", metavar="ACTION")
@click.option("--args", "args", metavar="JSON", help="A tool's arguments, or @file, or -.")
@click.option("--agent", metavar="NAME", help="The program that asks.")
@click.option("--user", metavar="NAME", help="For whom the run acts.")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="A label of the run.")
@click.option("--seen", multiple=True, metavar="LABEL", help="A label of what the run has seen.")
@click.option("--est-tokens", type=click.IntRange(0), metavar="N", help="What a model call takes.")
@common(driving=True)
def command(given: Given, action: str, args: str | None, **facts: Any) -> None:
    """Explain one decision: which rules looked, what they saw, and what would allow it.

    ACTION is RUN#SEQ, a recorded decision, which is shown and then decided again by the policy in
    force (or --policy); or a tool's name, or a model's route provider:model, with what --args and
    the other options say of it. What nothing says is unknown, and unknown never allows.
    """
    if action == LAST:
        raise click.UsageError(f"give the decision too, {LAST}#SEQ: gatebook show {LAST} --events")
    given = beside(given)
    run, hash_, seq = action.rpartition("#")
    if hash_:
        if args is not None or any(facts.values()):
            raise click.BadParameter(f"{action} is recorded with its facts: --policy alone fits")
        _recorded(given, run, _seq(seq))
    else:
        _imagined(given, action, {} if args is None else read_json(args), facts)


def _seq(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise click.BadParameter(f"a recorded decision is RUN#SEQ, with a number, got {text!r}")
    return int(text)


def _recorded(given: Given, name: str, seq: int) -> None:
    row, events = read_run(given, name)
    declared = Declared(given)
    tools = declared.tools(row.program)
    policy = _document(given, declared.app(row.program), row)
    book = None if policy is None else Rulebook(policy)
    told = Told(
        run_id=row.run.id,
        tenant=row.run.tenant,
        tools=specs(tools),
        limits=Limits() if policy is None else limits_of(policy),
        policy=policy.digest if policy is not None and policy.mode == "enforce" else "",
        labels=None if book is None else book.labels,
        results=True,
    )
    found = {each.seq: each for each in decisions(events, told)}
    if seq not in found:
        near = ", ".join(str(s) for s, each in found.items() if each.kind != "result")
        raise InvalidInput("E_POLICY_NO_DECISION", value=seq, run=row.run.id, names=near)
    decided = found[seq]
    now = answer(book, decided, validator(tools)) if book is not None else None
    told_now = None if book is None else explain(book, _narrowed(book, decided))
    if declared.unknown:
        say(f"what tools declare is not known of {row.program}: --app MODULE:ATTR says it")
    fields = _record_fields(row, decided)
    if given.as_json:
        _print_json(fields, policy, now, told_now)
    else:
        _print(_record_lines(row, decided), policy, now, told_now, decided.policy)


def _narrowed(book: Rulebook, decided: Decided) -> Request:
    """Return what decides: of a model call's routes the first that is not simply allowed."""
    for request in decided.requests:
        if book.decide(request).verdict != "allow":
            return request
    return decided.requests[0]


def _record_fields(row: RunRow, decided: Decided) -> dict[str, Any]:
    record = decided.record
    return {
        "run": row.run.id,
        "seq": decided.seq,
        "program": row.program,
        "kind": decided.kind,
        "what": decided.what,
        "recorded": {
            "verdict": decided.was,
            "shadow": None if record is None else record.shadow,
            "rules": [] if record is None or not record.rule else record.rule.split(","),
            "reason": "" if record is None else record.reason,
            "code": decided.code,
            "message": decided.told,
            "facts": {} if record is None else record.facts,
            "approval": "" if record is None else record.approval,
            "grant": 0 if record is None else record.grant,
            "policy": decided.policy,
            "by_policy": decided.by_policy,
        },
    }


def _record_lines(row: RunRow, decided: Decided) -> list[tuple[str, str]]:
    record = decided.record
    lines = [("decision", f"{row.run.id}#{decided.seq}  {decided.what}, for {row.program}")]
    said: str = decided.was
    if record is not None and record.shadow is not None:
        said += f" (a shadow policy: {record.shadow} if it were enforced)"
    if record is not None and record.rule:
        said += f", rule {record.rule}"
    if record is not None and (record.approval or record.grant):
        said += ", approved" if record.approval else f", by grant #{record.grant}"
    if decided.code:
        said += f" [{decided.code}]"
    lines.append(("recorded", said))
    if record is not None and (record.reason or decided.told):
        lines.append(("", record.reason or decided.told))
    if record is not None and record.facts:
        lines.append(("", ", ".join(f"{name} is {value}" for name, value in record.facts.items())))
    if not decided.by_policy:
        lines.append(("", "it was not refused by a policy: no rule can allow it"))
    return lines


def _imagined(given: Given, name: str, args: Any, facts: Mapping[str, Any]) -> None:
    app = settings_app(given)
    policy = _document(given, app)
    if policy is None:
        raise click.UsageError(
            f"{name} is decided by a policy file, and none is named: --policy FILE "
            "(a recorded decision is RUN#SEQ)"
        )
    tools: dict[str, Tool] = {}
    for program in app.programs.values() if app is not None else ():
        if facts["agent"] in (None, program.name):
            tools |= program.tools
    request = msgspec.structs.replace(
        _request(name, args, facts, tools), left=Left(limits_of(policy), NOTHING)
    )
    if request.action == "call_tool" and name not in tools:
        why = "no program here declares it" if app is not None else "give --app MODULE:ATTR"
        say(f"what {name} declares is not known: {why}")
    book = Rulebook(policy)
    found = explain(book, request)
    code = book.decide(request).code
    now = Answer(verdict=found.verdict, rules=found.rules, reason=found.reason, code=code)
    if given.as_json:
        _print_json({"what": request.name}, policy, now, found)
    else:
        agent = f", for {request.agent}" if request.agent else ""
        _print([("action", f"{request.name}{agent}")], policy, now, found, "")


def _request(name: str, args: Any, facts: Mapping[str, Any], tools: Mapping[str, Tool]) -> Request:
    common_facts: dict[str, Any] = {
        "agent": facts["agent"],
        "user": facts["user"],
        "tenant": DEFAULT_TENANT,
        "labels": read_labels(facts["labels"]),
        "history": History(seen=set(facts["seen"])),
    }
    provider, colon, model = name.partition(":")
    if colon:
        tokens = facts["est_tokens"]
        return Request(
            action="call_llm", provider=provider, model=model, est_tokens=tokens, **common_facts
        )
    if not isinstance(args, dict):
        raise click.BadParameter("--args is a JSON object, one member for each argument")
    tool = tools.get(name)
    if tool is None:
        return Request(tool=name, args=args, about=ToolFacts(), **common_facts)
    final = plain(tool.validate(canonical(args)))
    seen = View(tool.spec.schema).of(final)
    return Request(tool=name, args=seen, about=tool_facts(tool.spec), **common_facts)


def _document(given: Given, app: App | None, row: RunRow | None = None) -> Document | None:
    """Return the policy file in force, None when none is named or the policy is code."""
    try:
        past = None if row is None else remembered_of(given, row)
        policy = load_policy(given, app or App({}), past)
    except ConfigError as exc:
        if exc.code != "E_POLICY_MISSING" or given.policy:
            raise
        say("no policy is named, so nothing is decided again: --policy FILE names one")
        return None
    found = document_of(policy)
    if found is None:
        name = getattr(policy, "name", type(policy).__name__)
        say(f"the policy in force is code ({name}), which cannot be explained")
    return found


def _print_json(
    fields: dict[str, Any], policy: Document | None, now: Answer | None, found: Explanation | None
) -> None:
    more: dict[str, Any] = {}
    if policy is not None and now is not None and found is not None:
        more = {
            "policy": {"name": policy.name, "digest": policy.digest, "mode": policy.mode},
            **msgspec.to_builtins(now),
            "looked": msgspec.to_builtins(found.looked),
            "remedies": _remedies(now, found),
        }
    document(**fields, **more)


def _remedies(now: Answer, found: Explanation) -> list[str]:
    """Return what would have to be otherwise for it to run, one sentence each."""
    if now.code == "E_BUDGET" and found.verdict in PASSING:
        return [f"raise the limit in [budgets]: {now.reason}"]
    asks = [part.rule for part in found.looked if part.fired and part.then == "ask"]
    waits = [part.rule for part in found.looked if part.fired and part.then == "defer"]
    said = list(found.remedies)
    said += [f"rule {rule!r} wants a person's approval" for rule in asks]
    said += [f"rule {rule!r} wants it decided again later" for rule in waits]
    return said if found.verdict not in PASSING else []


def _print(
    head: list[tuple[str, str]],
    policy: Document | None,
    now: Answer | None,
    found: Explanation | None,
    recorded: str,
) -> None:
    lines = list(head)
    looked: Sequence[Looked] = ()
    remedies: Sequence[str] = ()
    if policy is not None and now is not None and found is not None:
        same = ", the policy that decided" if policy.digest == recorded else ""
        opened = now.code != "E_POLICY_NO_RULE"  # else those rules did not decide
        by = f", rule {', '.join(now.rules)}" if now.rules and opened else ""
        lines.append(("policy", f"{policy.name}{same}"))
        lines.append(("now" if recorded else "verdict", f"{now.verdict}{by}"))
        lines += [("", now.reason)] if now.reason else []
        looked, remedies = found.looked, _remedies(now, found)
    draw = _draw if on_terminal(sys.stdout) else _tabulate
    draw(lines, looked, remedies)


def _draw(lines: list[tuple[str, str]], looked: Sequence[Looked], remedies: Sequence[str]) -> None:
    for name, text in lines:
        print(f"{name:<9} {safe(text)}")
    if looked:
        print("\nrules that are about it")
    for part in looked:
        fires = "fires" if part.fired else "does not fire"
        print(f"  {part.rule} ({part.then}) {fires}, {safe(part.place)}")
        for each in part.asked:
            print(f"    {SIGNS[each.truth]:<8}{safe(each.text)}  (is {safe(each.value)})")
    if remedies:
        print("\nto be allowed")
    for text in remedies:
        print(f"  {safe(text)}")


def _tabulate(
    lines: list[tuple[str, str]], looked: Sequence[Looked], remedies: Sequence[str]
) -> None:
    rows: list[tuple[str, ...]] = [*lines]
    for part in looked:
        fires = "fires" if part.fired else "does not fire"
        rows.append(("rule", part.rule, part.then, fires, part.place))
        rows += [("fact", SIGNS[each.truth], each.text, each.value) for each in part.asked]
    table((), [*rows, *(("remedy", text) for text in remedies)])
