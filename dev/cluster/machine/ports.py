"""A free port that is still free when its owner binds it.

A port that the kernel hands out (bind to 0, close) goes to the next asker: another test, or the
near end of any outgoing connection, also while its owner restarts. So we choose below the range
that the kernel hands out from, and a lock file keeps other processes of ours away from the choice.
"""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
from pathlib import Path

LOOPBACK = "127.0.0.1"
# Below Linux's ephemeral ports (32768 on), NodePorts (30000 on), and what coordinators and torch listen on.
CANDIDATES = range(20_000, 29_000)
_held: list[int] = []  # descriptors of the locks: they end with this process, and the claims with them


def _locked(port: int, folder: Path) -> bool:
    descriptor = os.open(folder / str(port), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return False
    _held.append(descriptor)
    return True


def _bindable(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def claim_ports(count: int, candidates: range = CANDIDATES) -> list[int]:
    """`count` ports of the loopback address that stay this process's own until it ends.

    Raises:
        OSError: too few of the candidates are free.
    """
    folder = Path(tempfile.gettempdir()) / f"footplate-ports-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    claimed: list[int] = []
    for port in random.sample(candidates, len(candidates)):
        if _locked(port, folder) and _bindable(port):
            claimed.append(port)
            if len(claimed) == count:
                return claimed
    raise OSError(f"{count} free ports in {candidates.start}-{candidates.stop - 1}: {len(claimed)} found")
