"""`python -m gatebook`: the command line, where no script of that name is on the path."""

from gatebook.cli.main import main

main()
