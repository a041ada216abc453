"""`gatebook policy suggest`: drafts rules for what a run was denied; never applies one."""

from typing import Any

import click
import msgspec

from gatebook.cli.apps import App, beside, load_policy, remembered_of
from gatebook.cli.options import Given, Verb, common, run_argument
from gatebook.cli.output import document, say
from gatebook.cli.policies.recorded import Declared, read_run, specs, validator
from gatebook.errors import ConfigError
from gatebook.kernel.review.again import PASSING, Answer, answer, limits_of
from gatebook.kernel.review.decisions import Decided, Told, decisions
from gatebook.kernel.review.narrowest import Narrow, Unfit, narrowest
from gatebook.kernel.review.writing import comment
from gatebook.kernel.rules.document import Document, merge
from gatebook.kernel.rules.explain import explain
from gatebook.kernel.rules.match import Rulebook
from gatebook.kernel.rules.reading import load
from gatebook.ports import RunRow
from gatebook.runtime.policy_files import document_of

HEAD = "version = 1\n"


class Suggestion(msgspec.Struct, frozen=True, kw_only=True):
    """What can be done about one denial: a rule, or why no rule that is added helps."""

    seq: int
    what: str
    code: str
    rule: Narrow | None = None
    why: str = ""


@click.command(
    cls=Verb,
    examples=(
        "gatebook policy suggest @last",
        "gatebook policy suggest order-17 --policy policy.toml > more.toml",
    ),
)
@run_argument
@common(driving=True)
def command(given: Given, run: str) -> None:
    """Draft the narrowest rule for each denial of a run: one agent, exactly these arguments.

    Prints a policy file that is to be read, widened with care and kept beside yours; nothing is
    applied. A rule can open what nothing allows. It cannot lift a deny, answer an ask or raise a
    budget: those denials come as comments that say what would.
    """
    given = beside(given)
    row, events = read_run(given, run)
    declared = Declared(given)
    tools = declared.tools(row.program)
    policy = _policy(given, declared.app(row.program), row)
    told = Told(
        run_id=row.run.id, tenant=row.run.tenant, tools=specs(tools), limits=limits_of(policy),
        policy=policy.digest, labels=Rulebook(policy).labels,
    )  # fmt: skip
    denied = [each for each in decisions(events, told) if each.code]
    found = _Drafts(policy, tools).all(denied)
    if given.as_json:
        document(run=row.run.id, suggestions=[_fields(each) for each in found],
                 toml=_file(row, found))  # fmt: skip
        return
    if declared.unknown:
        say(f"what tools declare is not known of {row.program}: --app MODULE:ATTR says it")
    if not found:
        say(f"run {row.run.id} was denied nothing")
        return
    print(_file(row, found), end="")


def _policy(given: Given, app: App | None, row: RunRow) -> Document:
    """Return the policy file in force; one that allows nothing when there is none."""
    try:
        policy = load_policy(given, app or App({}), remembered_of(given, row))
        return document_of(policy) or Document()
    except ConfigError as exc:
        if exc.code != "E_POLICY_MISSING" or given.policy:
            raise
        return Document()


class _Drafts:
    """Drafts rules one by one, and tries each against the policy it would be added to."""

    def __init__(self, policy: Document, tools: Any) -> None:
        self._policy, self._tools = policy, tools
        self._taken = {rule.id for rule in policy.rules}
        self._seen: set[str] = set()

    def all(self, denied: list[Decided]) -> list[Suggestion]:
        """Return one suggestion for each denial that is not the same as one before."""
        found = []
        for decided in denied:
            suggestion = self._one(decided)
            if suggestion is not None:
                found.append(suggestion)
        return found

    def _one(self, decided: Decided) -> Suggestion | None:
        facts: dict[str, Any] = {"seq": decided.seq, "what": decided.what, "code": decided.code}
        if not decided.by_policy:
            return Suggestion(**facts, why="it was not refused by a policy")
        validate = validator(self._tools)
        now = answer(Rulebook(self._policy), decided, validate)
        if now.verdict in PASSING:
            return Suggestion(**facts, why="the policy in force allows it")
        try:
            rule = narrowest(decided, self._taken)
        except Unfit as exc:
            return Suggestion(**facts, why=str(exc))
        body = rule.text.replace(f'"{rule.id}"', '""', 1)
        if body in self._seen:
            return None
        self._seen.add(body)
        added = merge([self._policy, load(f"{HEAD}{rule.text}", "suggested.toml")])
        then = answer(Rulebook(added), decided, validate)
        still = _still(now, then)
        if still is None:
            where = "; ".join(explain(Rulebook(added), decided.requests[0]).remedies)
            why = f"no rule that is added helps: {then.verdict}{_by(then)}: {then.reason}"
            return Suggestion(**facts, why=f"{why}; {where}" if where else why)
        facts["why"] = still
        self._taken.add(rule.id)
        return Suggestion(**facts, rule=rule)


def _still(now: Answer, then: Answer) -> str | None:
    """Return what else is needed when a rule is added, "" for nothing, None when it is no help."""
    if then.verdict in PASSING:
        return ""
    if then.code == "E_BUDGET" and now.code != "E_BUDGET":
        return f"with the rule below, the budget is still short: {then.reason}"
    if then.verdict in ("ask", "defer") and now.verdict == "deny":
        return f"with the rule below, it is still {then.verdict}{_by(then)}"
    return None


def _by(found: Answer) -> str:
    return f" (rule {', '.join(found.rules)})" if found.rules else ""


def _file(row: RunRow, found: list[Suggestion]) -> str:
    """Return the suggestions as one policy file."""
    parts = [
        comment(
            f"Suggested for what run {row.run.id} of {row.program} was denied.\n"
            "Nothing is applied: read each rule, widen it where you mean more,\n"
            "and keep it beside your policy."
        )
        + HEAD
    ]
    for each in found:
        code = f" [{each.code}]" if each.code else ""
        head = f"{row.run.id}#{each.seq}  {each.what}{code}"
        parts.append(comment(f"{head}\n{each.why}" if each.why else head)
                     + (each.rule.text if each.rule is not None else ""))  # fmt: skip
    return "\n".join(parts)


def _fields(each: Suggestion) -> dict[str, Any]:
    return {
        "seq": each.seq,
        "what": each.what,
        "code": each.code,
        "rule": None if each.rule is None else {"id": each.rule.id, "toml": each.rule.text},
        "why": each.why,
    }
