"""The stable error codes and their texts: code -> (what happened, what to do).

`{name}` is replaced by the error's field of that name, quoted and cut to 80 characters.
A code is never reused for another meaning; texts may improve.
"""

TEXTS: dict[str, tuple[str, str]] = {
    # ids and names
    "E_ID_EMPTY": ("the run id is empty", "give letters, digits or ._-:@, or leave it out"),
    "E_ID_TOO_LONG": (
        "the run id {value} has {size} characters",
        "use at most {limit} characters",
    ),
    "E_ID_CHARS": (
        "the run id {value} has a character that is not allowed",
        "use ASCII letters, digits and ._-:@ only",
    ),
    "E_ID_NOT_NFC": (
        "the run id {value} is not in Unicode normal form, so it has look-alikes",
        "use ASCII letters, digits and ._-:@ only",
    ),
    "E_ID_TYPE": ("a run id must be text, got {value}", "pass a str, for example str(your_id)"),
    "E_TEXT_INVALID": (
        "text at {path} holds a lone surrogate and is not valid Unicode",
        "decode it with errors='replace' first",
    ),
    "E_TEXT_TYPE": ("{name}= must be text, got {value}", "pass a str, or leave it out"),
    "E_TOOL_NAME": (
        "tool name {value} is not allowed",
        "use 1 to 64 letters, digits, '_', '-' or '.'",
    ),
    "E_TOOL_DUPLICATE": ("two tools are named {value}", "rename one: @tool(name=...)"),
    "E_TOOL_DECLARATION": ("tool {tool} cannot be declared: {detail}", "{fix}"),
    "E_NAME_RESERVED": (
        "name {value} begins with the reserved prefix 'gatebook.'",
        "choose another name",
    ),
    "E_NAME_CONFUSABLE": (
        "name {value} has characters that look like others or cannot be seen",
        "use plain ASCII letters and digits",
    ),
    "E_PROGRAM_NAME": (
        "program name {value} is not allowed",
        "use 1 to 64 letters, digits, '_', '-' or '.'",
    ),
    # JSON
    "E_JSON_SYNTAX": ("text at {path} is not JSON: {detail}", "give one JSON value"),
    "E_JSON_NUMBER": (
        "number at {path} is not finite",
        "JSON has no NaN or Infinity: use null or a string",
    ),
    "E_JSON_INT_RANGE": (
        "integer at {path} does not fit 64 bits",
        "pass it as a string: other JSON readers would change it",
    ),
    "E_JSON_DUPLICATE_KEY": ("key {value} stands twice at {path}", "keep one of the two"),
    "E_JSON_KEY": ("key {value} at {path} is not text", "use str keys"),
    "E_JSON_DEPTH": ("JSON at {path} is nested deeper than {limit}", "flatten the value"),
    "E_JSON_CYCLE": ("the value at {path} contains itself", "pass a tree, not a graph"),
    "E_JSON_TYPE": (
        "{value} at {path} is not a JSON value",
        "pass str, int, float, bool, None, list or dict, or declare the type so it is converted",
    ),
    "E_PAYLOAD_TOO_LARGE": (
        "{what} has {size} bytes",
        "stay under {limit} bytes: store the body elsewhere and pass a reference",
    ),
    # arguments, input, results
    "E_ARGS_SCHEMA": (
        "argument {path} of {tool}: want {want}, got {got}",
        "pass a value that fits the tool's schema",
    ),
    "E_ARGS_EXTRA": (
        "{tool} has no argument {path}",
        "drop it, or correct its name",
    ),
    "E_INPUT": (
        "input of program {program} does not fit: {detail}",
        "pass a value of the declared input type",
    ),
    "E_CONTEXT": ("context= is not a JSON object: {detail}", "pass a dict of plain JSON"),
    "E_RESULT_TYPE": (
        "the result of {tool} is not what it declares: {detail}",
        "return the declared type, or plain JSON when none is declared",
    ),
    "E_RESULT_TOO_LARGE": (
        "the result of {tool} has {size} bytes",
        "return at most {limit} bytes, or raise @tool(max_output=...)",
    ),
    "E_OUTPUT": (
        "the output of program {program} does not fit its declared type: {detail}",
        "correct the program or its output type",
    ),
    "E_IDEMPOTENCY_DECL": (
        "tool {tool} says effect='idempotent' but takes no ToolContext",
        "take ctx: ToolContext first and hand ctx.idempotency_key to the service",
    ),
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
    "E_MAX_TURNS": (
        "the agent has used its {limit} turns without a final answer",
        "raise max_turns=, or give it a smaller task",
    ),
    "E_PROGRAM_UNKNOWN": (
        "no program named {program} is registered here (registered: {names})",
        "pass it in programs=[...], or --app module:runtime",
    ),
    "E_PROGRAM_DUPLICATE": ("two programs are named {program}", "rename one"),
    "E_DEFINITION_CHANGED": (
        "the definition of program {program} changed since run {run} began (was {has}, now {want})",
        "run the old code to finish it, or adopt the new one: on_definition_change='adopt'",
    ),
    # actions
    "E_ACTION": ("the action failed", "see the message of the tool"),
    "E_ACTION_FAILED": ("{tool} failed: {detail}", "correct the tool or its arguments"),
    "E_TOOL_RETRY": ("the tool asks to be called differently", "read its message"),
    "E_TOOL_UNKNOWN": ("there is no tool {tool} (did you mean: {names})", "call a declared tool"),
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
    "E_ACTION_CANCELLED": ("{tool} was cancelled before it started", "nothing happened outside"),
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
    "E_FANOUT": (
        "{count} actions were asked for in one step",
        "ask for at most {limit} at once: split the work",
    ),
    "E_REENTRANT": (
        "a tool of run {run} tried to start or drive a run",
        "start child runs from the program, not from inside a tool",
    ),
    "E_TOOL_EXIT": ("{tool} raised {detail}", "a tool must not end the process"),
    "E_PERMIT": ("no permit for {tool}: {detail}", "only the runtime may call an executor"),
    # policy, budget, retry
    "E_POLICY_MISSING": (
        "no policy was given, so nothing may run",
        "choose one: policy=AllowDeclared() allows what the program declares (development); "
        "policy=AllowListPolicy(tools=[...], providers=[...]); or --policy app:policy",
    ),
    "E_POLICY_ERROR": ("the policy raised {detail} while deciding", "correct the policy"),
    "E_POLICY_DECISION": (
        "the policy answered {value}, which is not a Decision",
        "return Decision.allow() or Decision.deny(reason)",
    ),
    "E_POLICY_RETRY": (
        "the policy's retry() answered {got}, which cannot be followed",
        "return Retry(after_ms) with whole milliseconds and a jitter from 0 to 1, or Fail()",
    ),
    "E_POLICY_DENIED": (
        "policy denied {tool}: {detail}",
        "change the policy or drop the action: an approval cannot lift a deny",
    ),
    "E_POLICY_SHAPE": (
        "policy= is {value}, which decides nothing",
        "pass an object with authorize(action, context), such as AllowDeclared()",
    ),
    "E_LABEL": ("a label is {value}", "labels are texts by text: labels={{'team': 'desk'}}"),
    "E_POLICY_LIST": ("{name} of a policy holds {value}", "pass a list of names"),
    "E_POLICY_SYNTAX": ("{path}: the policy is not TOML: {detail}", "correct that line"),
    "E_POLICY_KEY": ("{path}: unknown key {value} in {what}", "known here: {names}"),
    "E_POLICY_VALUE": ("{path}: {what} is {value}", "give {want}"),
    "E_POLICY_FACT": ("{path}: nothing named {value} is known {detail}", "known: {names}"),
    "E_POLICY_DUPLICATE": (
        "{path}: a rule {value} stands at {detail} already",
        "give each rule an id of its own",
    ),
    "E_POLICY_RETRY_TWICE": ("policies {names} set different retries", "keep one [retry]"),
    "E_POLICY_TOOL": (
        "{path}: there is no tool {value} (did you mean: {names})",
        "correct the name, or declare the tool",
    ),
    "E_POLICY_PATH": ("{path}: {value} does not fit the tools: {detail}", "{fix}"),
    "E_POLICY_UNREACHABLE": ("{path}: rule {value} can never decide: {detail}", "{fix}"),
    "W_POLICY_TOOL": (
        "{path}: no declared tool matches {value}",
        "keep it if such tools may come, else remove it",
    ),
    "E_POLICY_NO_RULE": ("no rule allows {tool}", "add an allow rule, or drop the action"),
    "E_ARGS_SECRET": (
        "the arguments of {tool} hold what looks like a secret ({detail})",
        "pass secrets by reference, never as text",
    ),
    "E_NOT_DECLARED": (
        "{tool} is not declared by program {program}",
        "declare it in tools= or models=, or call something that is",
    ),
    "E_NOT_ALLOWED": ("{tool} is not on the allow-list", "add it to the policy's list"),
    "E_VERDICT_UNSUPPORTED": (
        "the policy answered {value} for {tool}; approvals are not available in this version",
        "answer allow, deny or modify: until then it counts as denied",
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
    "E_EXTRA_MISSING": ("{what} needs a package that is not installed", "run: {command}"),
    # signals
    "E_SIGNAL_NAME": ("signal name {value} is not allowed", "use letters, digits and ._-:@"),
    "E_SIGNAL_LIMIT": (
        "run {run} keeps {limit} signals nobody awaits",
        "send fewer, or let the run await them",
    ),
    "E_SIGNAL_TYPE": ("signal {name} does not fit its declared type: {detail}", "send another"),
    "E_SIGNAL_TIMEOUT": ("nobody sent signal {name} in time", "send it earlier, or wait longer"),
    # determinism
    "E_NONDETERMINISM": (
        "at seq {seq} the program asks for {got}, the journal says {want}",
        "run the code that started it; the journal is untouched",
    ),
    "E_WORKFLOW_AWAIT": (
        "workflow {program} awaited {value}, which is not an action",
        "await only ctx methods: put I/O into a @tool",
    ),
    "E_WORKFLOW_CLOCK": (
        "workflow {program} called {value} while being stepped",
        "use {fix}",
    ),
    "E_WORKFLOW_UNAWAITED": (
        "workflow {program} made {value} and ended without awaiting it, so it never happened",
        "write await before it, or pass it to ctx.gather",
    ),
    # programs
    "E_PROGRAM_DECLARATION": ("program {program} cannot be declared: {detail}", "{fix}"),
    "E_WORKFLOW": (
        "workflow {program} raised {detail}",
        "correct the workflow, or catch the error in it",
    ),
    "E_ANSWER_INCOMPLETE": (
        "the model's answer is not whole ({detail})",
        "raise max_output_tokens=, or ask for less",
    ),
    "E_ANSWER_FILTERED": (
        "the provider's content filter cut the answer ({detail})",
        "change what is asked, or the model",
    ),
    "E_ANSWER_REFUSED": (
        "the model refused to answer: {detail}",
        "change what is asked, or the model",
    ),
    "E_ANSWER_UNREADABLE": (
        "the outcome of {address} is not a model's answer: {detail}",
        "resolve model calls with the JSON of an answer",
    ),
    "E_ANSWER_UNFIT": (
        "the model's answer does not fit what was declared, after {count} repairs: {detail}",
        "say in the instructions what is wanted, allow more in output=, or use another model",
    ),
    # schemas of typed answers
    "E_OUTPUT_SCHEMA": (
        "the output schema of program {program} is refused at {path}: {detail}",
        "correct it: output= takes a type or a JSON Schema",
    ),
    "E_OUTPUT_SCHEMA_SIZE": (
        "the output schema of program {program} has {size} bytes",
        "stay under {limit} bytes: ask for less at once",
    ),
    "E_OUTPUT_SCHEMA_DEPTH": (
        "the output schema of program {program} is nested deeper than {limit}",
        "flatten it, or give its parts names under $defs",
    ),
    "E_OUTPUT_SCHEMA_PROPERTIES": (
        "the output schema of program {program} has {size} properties",
        "stay within {limit}: ask for less at once",
    ),
    "E_OUTPUT_SCHEMA_REF": (
        "the output schema of program {program} has a reference at {path} that cannot be used "
        "({detail}): {value}",
        "refer to a schema under $defs; a circle must lead down into the value",
    ),
    "E_OUTPUT_SCHEMA_WORD": (
        "the output schema of program {program} cannot be checked at {path}: {detail}",
        "drop the word: what an answer is promised to be must have been checked",
    ),
    "E_OUTPUT_SCHEMA_PATTERN": (
        "the output schema of program {program} has a pattern at {path} that is not matched in "
        "linear time, {value}: {detail}",
        "write it as text, without look-around and back-references",
    ),
    # journal and store
    "E_CONFLICT": (
        "run {run} is at seq {seq}, the append expected {expected}",
        "fold the new events and decide again",
    ),
    "E_FENCED": (
        "run {run} is owned under epoch {current}, the append carried {epoch}",
        "stop driving the run: another worker has it",
    ),
    "E_COMMIT_UNKNOWN": (
        "a commit failed and may still be durable ({detail})",
        "read the run again before deciding",
    ),
    "E_EVENT_EXTERNAL": (
        "an event {kind} can only be appended by the worker that owns the run",
        "claim the run first",
    ),
    "E_JOURNAL_GAP": ("run {run} has a gap at seq {seq}", "restore the store from a backup"),
    "E_JOURNAL_DUPLICATE": ("run {run} has seq {seq} twice", "restore the store from a backup"),
    "E_JOURNAL_CORRUPT": (
        "run {run} was changed at seq {seq}: hash is {got}, should be {want}",
        "restore the store from a backup",
    ),
    "E_JOURNAL_TRUNCATED": (
        "run {run} ends at seq {got}, its anchor says {want}",
        "restore the store from a backup",
    ),
    "E_BLOB_MISSING": ("run {run} refers to body {digest} which is gone", "restore a backup"),
    "E_EVENT_UNKNOWN": (
        "run {run} has an event {kind} version {version} that this Gatebook does not know",
        "upgrade Gatebook",
    ),
    "E_EVENT_INVALID": ("run {run} has an unreadable event at seq {seq}: {detail}", "upgrade"),
    "E_TRANSITION": ("an event {kind} cannot follow while run {run} is {status}", "report this"),
    "E_INVARIANT": ("an invariant does not hold in run {run}: {detail}", "report this"),
    "E_SCHEMA_NEWER": (
        "the store {store} has schema {got}, this Gatebook knows {want}",
        "upgrade Gatebook",
    ),
    "E_SCHEMA_OLD": (
        "the store {store} has schema {got}, this Gatebook needs {want}",
        "start a new store: there is no migration from that version",
    ),
    "E_STORE_URL": ("store {value} is not a known location", "use sqlite:///path/to/file.db"),
    "E_STORE_FORMAT": ("{store} is not a Gatebook store: {detail}", "give another path"),
    "E_STORE_READONLY": ("the store {store} cannot be written", "check its permissions"),
    "E_STORE_MISSING": ("there is no store at {store}", "check the path, or run something first"),
    "E_STORE_FULL": (
        "the disk of {store} is full; nothing of this append was kept",
        "free space, then resume the run",
    ),
    "E_STORE_IO": ("the store {store} failed: {detail}", "check the disk, then resume the run"),
    "E_STORE_CORRUPT": ("the store {store} is damaged: {detail}", "restore it from a backup"),
    "E_STORE_STOPPED": (
        "the store {store} stopped writing after a commit that may or may not hold ({detail})",
        "check the disk, then restart this process",
    ),
    "E_HEAD_INVALID": (
        "the row of run {run} cannot be read: {detail}",
        "upgrade Gatebook, or restore the store from a backup",
    ),
    "E_STORE_BUSY": (
        "the store {store} was locked for {limit} s by {holder}",
        "stop the process that holds it",
    ),
    "E_STORE_NETFS": (
        "{store} lies on the network filesystem {detail}, where SQLite's WAL is not safe",
        "use a local disk",
    ),
    "E_STORE_PERMS": (
        "{store} can be written by others (mode {detail})",
        "run: {command}",
    ),
    "E_STORE_FORKED": (
        "the store {store} was opened before fork() and is used after it",
        "open it again in the child process",
    ),
    "E_STORE_CLOSED": ("the store {store} is closed", "open it again"),
    "E_SQLITE_WAL_RESET": (
        "SQLite {got} has the WAL-reset corruption bug",
        "install apsw 3.51.3 or newer",
    ),
    "E_OWNER_DUPLICATE": ("two workers use the owner id {owner}", "let Gatebook choose owner ids"),
    # the edge
    "E_USAGE": ("the command line cannot be understood: {detail}", "see {command}"),
    "E_APP": ("cannot load {value}: {detail}", "write module:attribute, for example app:support"),
    "E_CONFIG": ("setting {name} in {path} is not allowed: {detail}", "{fix}"),
    "E_CONTENT": ("the input is empty", "pass the text or JSON the program takes"),
    "E_RUNTIME_CLOSED": ("the runtime is closed", "use it inside `async with Runtime(...)`"),
}
