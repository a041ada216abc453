"""`gatebook policy schema`: the JSON Schema of a policy file."""

import json

import click

from gatebook.cli.options import Verb
from gatebook.cli.output import document
from gatebook.cli.policies.files import as_json
from gatebook.kernel.rules.schema import json_schema


@click.command(
    cls=Verb,
    examples=(
        "gatebook policy schema > policy.schema.json",
        "gatebook policy schema | jq '.properties | keys'",
    ),
)
@as_json
def command(as_json: bool) -> None:
    """Print the JSON Schema of a policy file, for editors and other tools.

    It knows the shapes; what it cannot say (a rule that never decides), `policy check` does.
    """
    schema = json_schema()
    if as_json:
        document(json_schema=schema)
    else:
        print(json.dumps(schema, indent=2))
