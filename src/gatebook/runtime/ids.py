"""Ids made at the edge: run ids, nonces, owner ids. The only randomness of the product."""

import os
import socket
import sys
import time

from gatebook.kernel.codec import ID_CHARS


def new_run_id() -> str:
    """Return a fresh uuid7 (RFC 9562): time-ordered to the millisecond."""
    if sys.version_info >= (3, 14):
        import uuid

        return str(uuid.uuid7())
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) & ~(0x3 << 62) | 0x7 << 76 | 0x2 << 62
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def new_nonce() -> str:
    """Return 128 random bits, hex: what a run's random() and keys are derived from."""
    return os.urandom(16).hex()


def new_owner() -> str:
    """Return a worker id: random per process, with host and pid for people."""
    host = "".join(c for c in socket.gethostname()[:24] if c in ID_CHARS) or "host"
    return f"{host}.{os.getpid()}.{os.urandom(6).hex()}"
