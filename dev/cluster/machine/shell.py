"""Runs other programs, and turns their failures into messages a person can act on."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from cluster.errors import CommandFailed

# $0: who starts it. Killed before setpriv could ask for that, it would be outlived.
_UNLESS_ORPHANED = '[ "$PPID" = "$0" ] && exec "$@"'
TAIL = 25  # lines of output worth showing: enough for a compiler error, short enough for a CI log


def describe(argv: Sequence[str], code: int, output: str) -> str:
    """The message for a failed command: what ran, how it ended, the end of what it said."""
    lines = output.strip().splitlines()
    shown = "\n".join(f"    {line}" for line in lines[-TAIL:])
    return f"`{shlex.join(argv)}` ended with {code}:\n{shown or '    (no output)'}"


def dying_with_us(argv: Sequence[str]) -> list[str]:
    """A command line whose program is killed when this one is: a killed ``up`` leaves no helper."""
    if shutil.which("setpriv") is None:
        return list(argv)
    return ["setpriv", "--pdeathsig", "KILL", "sh", "-c", _UNLESS_ORPHANED, str(os.getpid()), *argv]


def run(
    argv: Sequence[str | Path],
    *,
    stdin: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float | None = None,
    outlives_us: bool = False,
) -> str:
    """Runs a program to its end and returns its standard output.

    Args:
        outlives_us: for what must not stop half-way, even if we are killed.

    Raises:
        CommandFailed: it could not be started, ended with an error, or ran past ``timeout`` seconds.
    """
    words = [str(word) for word in argv]
    if shutil.which(words[0]) is None:
        raise CommandFailed(f"`{words[0]}` is not installed")
    try:
        done = subprocess.run(
            words if outlives_us else dying_with_us(words),
            input=stdin,
            stdin=None if stdin is not None else subprocess.DEVNULL,
            env={**os.environ, **env} if env else None,
            cwd=cwd,
            timeout=timeout,
            capture_output=True,
            text=True,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise CommandFailed(f"`{shlex.join(words)}` did not end within {timeout} s") from error
    if done.returncode != 0:
        raise CommandFailed(describe(words, done.returncode, done.stdout + done.stderr))
    return done.stdout


def succeeds(argv: Sequence[str | Path], *, timeout: float | None = None) -> bool:
    """Whether a program ends well; for questions whose answer is an exit code."""
    try:
        run(argv, timeout=timeout)
    except CommandFailed:
        return False
    return True
