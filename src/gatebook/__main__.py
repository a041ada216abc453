"""`python -m gatebook` and the script `gatebook`: the command line.

Loading it takes a moment in which Ctrl-C would print a traceback.
"""

import os
import signal

INTERRUPTED = 130


def main() -> None:
    """Run the command line and exit."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
    from gatebook.cli.main import main as run

    run()


if __name__ == "__main__":
    main()
