"""The texts of errors about runs, actions, policy, budgets and models; see `gatebook.codes`."""

TEXTS: dict[str, tuple[str, str]] = {
    # runs
    "E_RUN_NOT_FOUND": ("there is no run {run}", "check the id: gatebook list shows them"),
    "E_RUN_AMBIGUOUS": ("{run} matches several runs: {names}", "give more characters of the id"),
    "E_RUN_CONFLICT": (
        "run {run} already exists with another {what} (has {has}, asked {asked})",
        "use a new run id, or the same program and input",
    ),
    "E_RUN_TERMINAL": ("run {run} is over ({status})", "start a new run"),
    "E_RUN_FAILED": ("run {run} failed: {detail}", "see gatebook show {run_id}"),
    "E_RUN_DENIED": ("run {run} was refused something it needs: {detail}", "{fix}"),
    "E_RUN_CANCELLED": ("run {run} was cancelled: {detail}", "start a new run"),
    "E_RUN_WAITING": ("run {run} waits for {detail}", "{fix}"),
    "E_RUN_TOO_LONG": (
        "run {run} has reached its maximum of {limit} events",
        "start a new run that goes on from its result",
    ),
    "E_RUN_STUCK": (
        "run {run} cannot go on: making out its next step raised {detail}",
        "see the log, correct it, and let the run go on: gatebook resume",
    ),
    "W_RUN_LONG": (
        "run {run} has {seq} events and is ended at {limit}",
        "let it end earlier, and start a new run that goes on from its result",
    ),
    "E_MAX_TURNS": (
        "the agent has used its {limit} turns without a final answer",
        "raise max_turns=, or give it a smaller task",
    ),
    "E_PROGRAM_UNKNOWN": (
        "no program named {program} is registered here (registered: {names})",
        "pass it in programs=[...], or --app module:runtime",
    ),
    "E_PROGRAM_SHAPE": (
        "{value} is not a program",
        "pass an Agent, or an async function that is decorated with @workflow",
    ),
    "E_PROGRAM_DUPLICATE": ("two programs are named {program}", "rename one"),
    "E_PROGRAM_CODE": (
        "a program named {program} with the same definition and other code runs here",
        "make it once and give what differs as input, context= or deps=; after an edit, open a "
        "new Runtime",
    ),
    "E_DEFINITION_CHANGED": (
        "the definition of program {program} changed since run {run} began (was {has}, now {want})",
        "run the old code to finish it, or adopt the new one: on_definition_change='adopt'",
    ),
    # hooks
    "E_HOOK_DENIED": ("hook {hook} denied {what}: {detail}", "read the reason and do otherwise"),
    "E_HOOK_WITHHELD": (
        "{what} ran and hook {hook} withheld what came of it: {detail}",
        "do not repeat it to see the result",
    ),
    "E_HOOK_FAILED": ("hook {hook} failed: {detail}", "correct the hook"),
    "E_HOOK_TIMEOUT": (
        "hook {hook} did not answer within {limit} ms",
        "make it faster, or give it more time: @hook(..., timeout=...)",
    ),
    "E_HOOK_ANSWER": (
        "hook {hook} gave an answer that cannot be used: {detail}",
        "return None, Change(value) or Deny(reason)",
    ),
    "E_HOOK_RIGHTS": (
        "hook {hook} has no right to {right}",
        "declare it: @hook(..., rights=[...])",
    ),
    "E_HOOK_CANCELLED": (
        "hook {hook} was cancelled before it answered",
        "the run was cancelled or its worker stopped",
    ),
    "E_HOOK_MISSING": (
        "run {run} was started under security hooks that this worker does not have: {names}",
        "register them: Runtime(hooks=[...]), or go on without: on_definition_change='adopt'",
    ),
    # actions
    "E_ACTION": ("the action failed", "see the message of the tool"),
    "E_ACTION_FAILED": ("{tool} failed: {detail}", "correct the tool or its arguments"),
    "E_TOOL_RETRY": ("the tool asks to be called differently", "read its message"),
    "E_TOOL_UNKNOWN": ("there is no tool {tool}{near}", "call a declared tool"),
    "E_ACTION_TIMEOUT": (
        "{tool} did not end within {limit} ms",
        "raise its timeout=, or make it faster",
    ),
    "E_ACTION_POISON": (
        "{tool} was lost with its worker {limit} times",
        "find out why it kills workers, then gatebook resume the run",
    ),
    "E_ACTION_NOT_OPEN": ("action {address} of run {run} is not open", "nothing was recorded"),
    "E_ACTION_NOT_UNKNOWN": (
        "action {address} of run {run} does not wait for a resolution ({status})",
        "resolve only actions that gatebook show marks unknown",
    ),
    "E_RESOLUTION": (
        "{value} says nothing of what became of the action",
        "pass Succeeded(output), Denied(message) or RETRY",
    ),
    "E_NOT_STARTING": (
        "run {run} is {status}, so no action may start",
        "read the run again before deciding",
    ),
    "E_ALREADY_CANCELLING": ("run {run} is being cancelled already", "wait for it to end"),
    "E_NOT_INTERRUPTED": (
        "run {run} is not interrupted ({status})",
        "nothing to do: gatebook show says what it waits for",
    ),
    "E_ACTION_CANCELLED": (
        "{tool} was cancelled before it {detail}",
        "nothing was changed outside",
    ),
    "E_UNKNOWN_TIMEOUT": (
        "{tool} ran longer than {limit} ms; whether it took effect is not known",
        "look at the service, then gatebook resolve",
    ),
    "E_UNKNOWN_LOST": (
        "the worker died while {tool} was running; whether it took effect is not known",
        "look at the service, then gatebook resolve",
    ),
    "E_UNKNOWN_CANCELLED": (
        "{tool} was cancelled while running; whether it took effect is not known",
        "look at the service, then gatebook resolve",
    ),
    "E_LOOP_REPEATED": (
        "{tool} was called {count} times in a row with the same arguments",
        "use the earlier result, or call it differently",
    ),
    "E_SLEEP_NEGATIVE": ("a sleep of {value} is negative", "sleep zero or longer"),
    "E_SLEEP_TOO_LONG": ("a sleep of {value} is too long", "sleep at most {limit} days"),
    "E_SLEEP_TYPE": ("a sleep takes seconds or a timedelta, got {value}", "pass a finite number"),
    "E_ARTIFACT": (
        "run {run} has no single artifact {value}",
        "give the digest, or the beginning of one, of: {names}",
    ),
    "E_FANOUT": (
        "{count} actions were asked for in one step",
        "ask for at most {limit} at once: split the work",
    ),
    "E_REENTRANT": (
        "a tool or hook of run {run} tried to start or drive a run, or to answer for a person",
        "do that in the code that holds the runtime, not from inside a tool or hook",
    ),
    "E_TOOL_EXIT": ("{tool} raised {detail}", "a tool must not end the process"),
    "E_PERMIT": ("no permit for {tool}: {detail}", "only the runtime may call an executor"),
    # the tools that are shipped
    "E_PATH": (
        "path {value} is not allowed: {detail}",
        "give a path below the folder, without links and without '..'",
    ),
    "E_FILE": ("{value} cannot be used: {detail}", "list the folder to see what is there"),
    "E_SHELL_PROGRAM": (
        "program {value} is not in the list",
        "give one of these as the first item: {names}",
    ),
    "E_SHELL_ARGUMENTS": ("the arguments cannot be passed: {detail}", "pass other arguments"),
    "E_SANDBOX_MISSING": (
        "tool {tool} asks for a sandbox that is not installed: {want}",
        "install it (apt install bubblewrap, dnf install bubblewrap), or ask for another profile",
    ),
    "E_HTTP_URL": ("the URL {value} is not allowed: {detail}", "give another URL"),
    "E_HTTP_HOST": (
        "the host {value} is not in the list",
        "call one of these: {names}",
    ),
    "E_HTTP_ADDRESS": (
        "the host {value} leads to {address}, which is {detail}",
        "call another host: only those who declare the tool can allow this one (private=)",
    ),
    "E_HTTP_HEADER": ("the header {value} is not allowed: {detail}", "leave it out"),
    "E_HTTP_REDIRECTS": ("{value} was redirected more than {limit} times", "call another URL"),
    # policy, budget, retry
    "E_POLICY_MISSING": (
        "no policy {detail}, so nothing may run",
        "choose one: policy=AllowDeclared() allows what the program declares (development); "
        "policy=AllowListPolicy(tools=[...], providers=[...]); or a policy file, "
        "policy='policy.toml' or --policy policy.toml",
    ),
    "E_POLICY_DIFFERS": (
        "the runs here were given different policies: {detail}",
        "say which one is for all: --policy; or gatebook resume them, each under its own",
    ),
    "E_POLICY_ERROR": ("the policy raised {detail}", "correct the policy"),
    "E_POLICY_DECISION": (
        "the policy answered {value}, which is not a Decision",
        "return Decision.allow() or Decision.deny(reason)",
    ),
    "E_POLICY_TIMEOUT": (
        "the policy took {value} seconds to decide, more than {limit}",
        "make it quick: it holds up every run here; what takes long is an action of the program",
    ),
    "E_POLICY_RETRY": (
        "the policy's retry() answered {got}, which cannot be followed",
        "return Retry(after_ms) with whole milliseconds and a jitter from 0 to 1, or Fail()",
    ),
    "E_POLICY_DENIED": (
        "policy denied {tool}: {detail}",
        "change the policy or drop the action: an approval cannot lift a deny",
    ),
    "E_POLICY_DEVELOPMENT": (
        "the policy {value} is for development, and GATEBOOK_ENV is production",
        "use a policy file: gatebook init writes one that fits your tools",
    ),
    "E_POLICY_SHAPE": (
        "policy= is {value}, which decides nothing",
        "pass an object with authorize(action, context), such as AllowDeclared()",
    ),
    "E_LABEL": ("{value} is no label", "labels are texts by text: labels={{'team': 'desk'}}"),
    "E_POLICY_LIST": (
        "{name} of a policy cannot be or hold {value}",
        "pass a list of names; ask_before= takes read, idempotent and at_most_once",
    ),
    "E_POLICY_SYNTAX": ("{path}: the policy is not TOML: {detail}", "correct that line"),
    "E_POLICY_KEY": ("{path}: unknown key {value} in {what}", "known here: {names}"),
    "E_POLICY_VALUE": ("{path}: {what} is {value}", "give {want}"),
    "E_POLICY_FACT": ("{path}: nothing named {value} is known {detail}", "known are: {names}"),
    "E_POLICY_DUPLICATE": (
        "{path}: a rule {value} stands at {detail} already",
        "give each rule an id of its own",
    ),
    "E_POLICY_RETRY_TWICE": ("policies {names} set different retries", "keep one [retry]"),
    "E_POLICY_TOOL": (
        "{path}: there is no tool {value}{near}",
        "correct the name, or declare the tool",
    ),
    "E_POLICY_PATH": ("{path}: {value} does not fit the tools: {detail}", "{fix}"),
    "E_POLICY_UNREACHABLE": ("{path}: rule {value} can never decide: {detail}", "{fix}"),
    "W_POLICY_TOOL": (
        "{path}: no declared tool matches {value}",
        "keep it if such tools may come, else remove it",
    ),
    "E_RESULT_WITHHELD": (
        "the result of {tool} is withheld: {detail}",
        "go on without it: the call itself was made, so do not repeat it",
    ),
    "E_POLICY_NO_RULE": ("no rule allows {tool}", "add an allow rule, or drop the action"),
    "E_POLICY_FILE": ("the policy file {path} cannot be used: {detail}", "check its path"),
    "E_POLICY_EXISTS": ("{path} is there already, and was left as it is", "name another: --out"),
    "E_POLICY_NO_DECISION": (
        "event {value} of run {run} is no decision",
        "decisions of that run: {names}",
    ),
    "E_ENDORSE": (
        "label {value} of run {run} cannot be endorsed: {detail}",
        "look at what the run has seen, then name one of its labels, who vouches and up to "
        "which event",
    ),
    "E_ARGS_SECRET": (
        "the arguments of {tool} hold what looks like a secret ({detail})",
        "pass secrets by reference: declare the parameter Secret[str] and give 'secret://name'",
    ),
    "E_SECRET_LITERAL": (
        "argument {path} of {tool} takes a secret, and was given something else",
        "pass a reference to one: 'secret://name'",
    ),
    "E_SECRET_UNKNOWN": (
        "{tool} refers to secret {value}, and there is none of that name{near}",
        "correct the name, or add it: Runtime(secrets={{...}}) or [secrets] in gatebook.toml",
    ),
    "E_SECRET_UNAVAILABLE": (
        "secret {name} of {tool} cannot be had: {detail}",
        "nothing was called: set its source, then start the action again",
    ),
    "E_SECRET_UNRESOLVED": (
        "secret {name} has no value here",
        "only a tool that runs gets values; in a unit test pass Secret('a value')",
    ),
    "E_NAME_SECRET": (
        "{what} holds what looks like a secret",
        "name it otherwise: names are stored and shown as they are",
    ),
    "E_TOOL_PIN": (
        "tool {tool} is not the one that was pinned: {detail}",
        "read what it is now, then approve the call, write the digest under [pins] in the policy, "
        "or start a new run",
    ),
    "E_NOT_DECLARED": (
        "{tool} is not declared by program {program}",
        "declare it in tools= or models=, or call something that is",
    ),
    "E_NOT_ALLOWED": ("{tool} is not on the allow-list", "add it to the policy's list"),
    "E_VERDICT_UNSUPPORTED": (
        "the policy answered {value} for {tool} where nobody can be asked",
        "answer allow or deny about later attempts and further routes: a request is what asks",
    ),
    "E_MODIFY_LOOP": (
        "the policy modified {tool} {limit} times without allowing it",
        "make the modified arguments acceptable to the policy",
    ),
    "E_BUDGET": (
        "the {meter} budget cannot carry {tool}: limit {limit}, used {used}, asked {want}",
        "raise the budget or ask for less",
    ),
    "E_BUDGET_CONFIG": (
        "budget {meter} = {value} is not allowed",
        "give a whole number from 0 to {limit}",
    ),
    "E_BUDGET_USD": (
        "budget usd = {value} is not an amount of dollars",
        "give 0 or more with at most 6 decimals, as text or Decimal: usd='2.50'",
    ),
    "E_BUDGET_TYPE": (
        "{what} is {value}, not a Budget",
        "pass Budget(tool_calls=..., llm_tokens=..., wall_clock=..., usd=...)",
    ),
    "E_BUDGET_SOFT": (
        "{value} is no soft limit",
        "pass soft=Soft(usd='1.50') to be asked, or Soft(usd='1.50', route='provider:model')",
    ),
    "E_BUDGET_RAISE": (
        "the {meter} limit of run {run} is {limit}, and {value} would not raise it",
        "give more than that; a meter without a limit needs no raise",
    ),
    "E_LEDGER": (
        "the {ledger} ledger has {left} of {limit} {meter} left and {tool} asks for {want}",
        "{renews}; or raise its limit in [budgets.{ledger}] of the policy or Runtime(ledgers=...)",
    ),
    "E_LEDGER_CONFIG": (
        "{what} declares {value}, which is no ledger",
        "map 'day' or 'tenant' to Budget(tool_calls=..., llm_tokens=..., usd=...)",
    ),
    "E_PRICE_UNKNOWN": (
        "the price of {tool} is not known, and the budget is in dollars",
        "write [prices.{tool}] in gatebook.toml, in dollars per million input and output tokens, "
        "pass Runtime(prices=...), or install gatebook[prices]",
    ),
    "E_RETRY_CONFIG": ("retry setting {name} = {value} is not allowed", "give {want}"),
    "E_RETRY_AFTER_EXCEEDS": (
        "the server asks to wait {value} ms, above the cap of {limit} ms",
        "try later: sleep durably and call again, or raise cap_ms",
    ),
    "E_USAGE_INVALID": (
        "{tool} reported impossible usage ({detail})",
        "the reservation was charged instead: tell its provider",
    ),
    "W_USAGE_MISSING": (
        "{tool} reported no usage",
        "the reservation was charged instead: ask the provider to report usage",
    ),
    "W_RETRY_AFTER_INVALID": (
        "the retry hint {value} of {what} cannot be used",
        "it was ignored: give a whole number of milliseconds above zero",
    ),
    # providers
    "E_PROVIDER": ("the model call failed", "see its category"),
    "E_ROUTE": (
        "model route {value} is not 'provider:model'",
        "write for example 'openai:gpt-5-mini' or 'scripted:answers.json'",
    ),
    "E_STREAM_ORDER": (
        "a stream event {event} cannot follow while the stream is {phase}",
        "report this",
    ),
    "E_PROVIDER_UNKNOWN": (
        "no provider {provider} is configured (configured: {names})",
        "add [providers.{provider_name}] with base_url to gatebook.toml, or pass providers={{...}}",
    ),
    "E_KEY_MISSING": ("the key of provider {provider} is not set", "set {fix}"),
    "E_SCRIPT_FILE": (
        "the script {path} of a scripted model cannot be read: {detail}",
        "name a JSON file that is there: scripted:answers.json",
    ),
    "E_EXTRA_MISSING": ("{what} needs a package that is not installed", "run: {command}"),
}
