"""Keeps this process from reaching anything but its own machine, with an audit hook.

Nothing is patched: the interpreter itself reports every connection and look-up before it happens.
"""

import sys

REFUSED: list[str] = []  # every refused contact of this process, for the plugin that fails the test
WATCHING: list[bool] = []
LOCAL_NAMES = {"", "localhost"}
CONNECTING = {"socket.connect", "socket.sendto", "socket.sendmsg"}
ASKING = {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"}
REMEDY = (
    "tests reach the loopback address only: call a model through a cassette "
    "(gatebook.testing.cassette), a fault server or the local model"
)


class OutsideContact(RuntimeError):
    """Something in the suite tried to reach another machine."""


def is_local(host: object) -> bool:
    """Return whether `host`, a name or an address as sockets take it, is this machine."""
    if host is None:  # getaddrinfo: the wildcard or the loopback address
        return True
    name = host.decode("ascii", "replace") if isinstance(host, bytes) else str(host)
    if name in LOCAL_NAMES:
        return True
    import ipaddress  # late: start-up of the processes under test stays as it is

    try:
        return ipaddress.ip_address(name.partition("%")[0]).is_loopback
    except ValueError:
        return False


def watch(event: str, args: tuple[object, ...]) -> None:
    """Raise OutsideContact before a connection, a datagram or a look-up leaves this machine."""
    if event in CONNECTING or event == "socket.getnameinfo":
        address = args[-1]
        host = address[0] if isinstance(address, tuple) and address else None  # else a Unix socket
    elif event in ASKING:
        host = args[0]
    else:
        return
    if not is_local(host):
        REFUSED.append(f"{event} {host!r}")
        raise OutsideContact(f"{event} to {host!r} refused; {REMEDY}")


def install() -> None:
    """Watch this process from now on. Safe to call again; an audit hook cannot be removed."""
    if not WATCHING:
        WATCHING.append(True)
        sys.addaudithook(watch)
