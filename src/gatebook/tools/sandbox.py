"""What a program started by `shell` may use: resource limits, and bubblewrap's view of the disk.

Turns settings into an order for the supervisor; starts nothing.
"""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal

from gatebook.errors import ConfigError
from gatebook.tools.options import refused

Profile = Literal["rlimits", "bwrap"]
PROFILES = ("rlimits", "bwrap")

MIB = 1024 * 1024
# What a program needs of the system to start at all: its libraries, and where they are listed.
SYSTEM = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
LISTS = ("/etc/alternatives", "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d")
NETWORK = ("/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/ssl")


@dataclass(frozen=True, kw_only=True)
class ShellLimits:
    """Resource limits of a program, as setrlimit(2) knows them; each process has them for itself.

    Attributes:
        cpu_s: seconds of processor time, after which the kernel kills.
        memory: bytes of address space.
        file_size: bytes of one file that is written.
        processes: of this user on the whole machine, not only of the program; not kept for root.
        open_files: descriptors.
    """

    cpu_s: int = 60
    memory: int = 1024 * MIB
    file_size: int = 256 * MIB
    processes: int = 4_096
    open_files: int = 256

    def order(self, tool: str) -> dict[str, int]:
        """Return the limits by name. Raises ConfigError E_TOOL_DECLARATION."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        for name, value in found.items():
            if type(value) is not int or not 1 <= value < 2**62:
                raise refused(tool, f"{name}={value!r} is not allowed", "give a number from 1")
        return found


def bubblewrap(tool: str) -> str:
    """Return where bubblewrap is.

    Raises:
        ConfigError: E_SANDBOX_MISSING: it is not installed, and nothing stands in for it.
    """
    found = shutil.which("bwrap")
    if found is None:
        raise ConfigError("E_SANDBOX_MISSING", tool=tool, want="bwrap")
    return os.path.abspath(found)


def wrapped(
    bwrap: str, program: str, args: Sequence[str], *, root: str, folder: str, network: bool
) -> list[str]:
    """Return the command that runs a program where it sees the system, `root` and nothing else.

    The system is read-only, `root` is writable, and there are no other processes. Not hidden: the
    kernel, and, with `network`, whatever this machine can reach.
    """
    command = [bwrap, "--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    if network:
        command += ["--share-net"]
    command += ["--ro-bind", "/usr", "/usr"]
    for path in SYSTEM:
        if os.path.islink(path):
            command += ["--symlink", os.readlink(path), path]
        elif os.path.isdir(path):
            command += ["--ro-bind", path, path]
    for path in LISTS + (NETWORK if network else ()):
        command += ["--ro-bind-try", path, path]
    command += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]
    command += ["--bind", root, root]
    if not program.startswith("/usr/"):
        command += ["--ro-bind", program, program]
    return [*command, "--chdir", os.path.join(root, folder), "--", program, *args]
