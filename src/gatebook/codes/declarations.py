"""The texts of errors about names, declarations and typed answers; see `gatebook.codes`."""

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
    "E_CURSOR_INVALID": (
        "{value} is no cursor",
        "pass a seq, or the cursor of an earlier reader of this run as it was given",
    ),
    "E_TOOL_NAME": (
        "tool name {value} is not allowed",
        "use 1 to 64 letters, digits, '_', '-' or '.'",
    ),
    "E_TOOL_DUPLICATE": ("two tools are named {value}", "rename one: @tool(name=...)"),
    "E_TOOL_DECLARATION": ("tool {tool} cannot be declared: {detail}", "{fix}"),
    "E_NAME_RESERVED": (
        "name {value} is reserved, or begins with a reserved prefix such as 'gatebook.'",
        "choose another name",
    ),
    "E_TOOL_CONFUSABLE": (
        "tool {value} is too like {names}: they differ in case or in '.', '_', '-' only",
        "rename one: a person who approves must not mistake it",
    ),
    "E_TOOL_UNSEEN": (
        "the {what} of tool {tool} holds a character nobody sees ({detail})",
        "remove it: a model would read what a person does not",
    ),
    "E_SECRET_SOURCE": (
        "secret {name} cannot be set up: {detail}",
        'give "env:VARIABLE", "file:/path" or a function that returns the text, by a name of '
        "letters, digits, '_', '-' or '.'",
    ),
    "E_NAME_CONFUSABLE": (
        "name {value} has characters that look like others or cannot be seen",
        "use plain ASCII letters and digits",
    ),
    "E_PROGRAM_NAME": (
        "program name {value} is not allowed",
        "use 1 to 64 letters, digits, '_', '-' or '.'",
    ),
    # hooks
    "E_HOOK_NAME": (
        "hook name {value} is not allowed",
        "use 1 to 64 letters, digits, '_', '-' or '.': @hook(..., name=...)",
    ),
    "E_HOOK_DUPLICATE": ("two hooks are named {hook}", "rename one: @hook(..., name=...)"),
    "E_HOOK_DECLARATION": ("hook {hook} cannot be declared: {detail}", "{fix}"),
    "E_HOOK_OPEN": (
        "security hook {hook} would fail open",
        'declare it with on_failure="closed", or say that it guards nothing: security=False',
    ),
    "E_HOOK_TOOL": (
        "hook {hook} names tool {tool}, which no program here declares",
        "correct the name, or register the program: Runtime(programs=[...])",
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
    # determinism
    "E_NONDETERMINISM": (
        "at seq {seq} the program asks for {got}, the journal says {want}",
        "run the code that started it; the journal is untouched",
    ),
    "E_WORKFLOW_AWAIT": (
        "workflow {program} awaited {value}, which is not an action",
        "await only ctx methods (ctx.gather, ctx.sleep, ...): put I/O into a @tool",
    ),
    "E_WORKFLOW_TOOL": (
        "workflow {program} calls tool {tool} itself, and so past the gate",
        "write await ctx.call_tool(tool, ...)",
    ),
    "E_WORKFLOW_CLOCK": (
        "workflow {program} called {value} while being stepped",
        "use {fix}",
    ),
    "E_WORKFLOW_UNAWAITED": (
        "workflow {program} made {value} and ended without awaiting it, so it never happened",
        "write await before it, or pass it to ctx.gather",
    ),
}
