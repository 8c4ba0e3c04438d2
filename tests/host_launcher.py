"""Become another host, then another program: network namespace, host name, program and its arguments.

Started as a script by `tests.hosts`; what it sets holds for the program and all that the program starts.
"""

import ctypes
import os
import socket
import sys
from pathlib import Path

_NEW_UTS, _NEW_NET = 0x04000000, 0x40000000


def become(namespace: str, name: str) -> None:
    """Enter the network namespace, and have a host name of one's own. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    with Path("/var/run/netns", namespace).open("rb") as file:
        if libc.setns(file.fileno(), _NEW_NET):
            raise OSError(ctypes.get_errno(), f"cannot enter the network namespace {namespace}")
    if libc.unshare(_NEW_UTS):
        raise OSError(ctypes.get_errno(), "cannot have a host name of one's own")
    socket.sethostname(name)


if __name__ == "__main__":
    become(*sys.argv[1:3])
    os.execv(sys.argv[3], sys.argv[3:])
