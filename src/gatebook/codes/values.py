"""The texts of errors about JSON, arguments, inputs and results; see `gatebook.codes`."""

TEXTS: dict[str, tuple[str, str]] = {
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
        "return the declared type, or plain JSON when none is declared; resolve it with the same",
    ),
    "E_RESULT_TOO_LARGE": (
        "the result of {tool} has {size} bytes",
        "return at most {limit} bytes: keep the rest where a later call can read it",
    ),
    "E_OUTPUT": (
        "the output of program {program} does not fit its declared type: {detail}",
        "correct the program or its output type",
    ),
    "E_IDEMPOTENCY_DECL": (
        "tool {tool} says effect='idempotent' but takes no ToolContext",
        "take ctx: ToolContext first and hand ctx.idempotency_key to the service",
    ),
    # signals
    "E_SIGNAL_NAME": ("signal name {value} is not allowed", "use letters, digits and ._-:@"),
    "E_SIGNAL_LIMIT": (
        "run {run} keeps {limit} signals nobody awaits",
        "send fewer, or let the run await them",
    ),
    "E_SIGNAL_TYPE": (
        "signal {name} does not fit its declared type: {detail}",
        "start a new run and send what fits, or catch InvalidInput at the wait and wait again",
    ),
    "E_SIGNAL_UNFIT": (
        "run {run} could not read signal {name}: {detail}",
        "nothing was sent: send JSON of the type that the workflow waits for; text is '\"quoted\"'",
    ),
    "E_SIGNAL_TIMEOUT": ("nobody sent signal {name} in time", "send it earlier, or wait longer"),
}
