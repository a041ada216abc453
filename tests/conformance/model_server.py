"""The small local model in a process of its own, so that it can be killed.

Prints one line, the addresses of the talking and of the calling server, before either is ready.
"""

import signal
import sys

from gatebook.providers.local import _serve

if __name__ == "__main__":
    servers = [_serve("chat"), _serve("tools")]
    sys.stdout.write(" ".join(server.listening_address for server in servers) + "\n")
    sys.stdout.flush()
    signal.pause()
