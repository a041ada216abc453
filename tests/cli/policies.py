"""What tests of `gatebook policy` share: policies about an app that looks up and refunds."""

from pathlib import Path

READS = """version = 1
name = "reads"

[[rule]]
id = "reads"
then = "allow"
tool = "look_up"

[[rule]]
id = "models"
then = "allow"
action = "call_llm"

[[test]]
call = { tool = "look_up" }
expect = "allow"

[[test]]
call = { tool = "refund" }
expect = "deny"
"""
SMALL = """
[[rule]]
id = "small-refunds"
then = "allow"
tool = "refund"
where = { "args.amount" = { le = 20 } }
"""
NO_REFUNDS = """
[[rule]]
id = "no-refunds"
then = "deny"
tool = "refund"
where = { "args.amount" = { gt = 15 } }
message = "No refund of {args.amount} today."
"""
WRONG = """version = 1
[[rule]]
id = "one"
then = "allow"
tool = ["look_up", "look_upp"]
where = { "args.ordr" = { eq = "17" } }
"""


def write(folder: Path, **files: str) -> None:
    """Write policies, each to the file of its name."""
    for name, text in files.items():
        (folder / f"{name}.toml").write_text(text)


def rows(text: str) -> list[list[str]]:
    """Return the cells of what was printed, line by line."""
    return [line.split("\t") for line in text.splitlines()]
