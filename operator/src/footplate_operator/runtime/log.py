"""Logs that a person reads and a machine greps: one line, key=value, no colours."""

from __future__ import annotations

import logging
import sys


def configure(level: str) -> None:
    """Everything to stderr; libraries only from WARNING on."""
    logging.basicConfig(
        level=logging.WARNING,
        stream=sys.stderr,
        format="%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%S",
        force=True,
    )
    logging.getLogger("footplate_operator").setLevel(level)
    logging.getLogger("kopf").setLevel(logging.WARNING)


def fields(**values: object) -> str:
    """`values` as key=value, quoted where a blank needs it."""
    return " ".join(f"{name}={_quoted(value)}" for name, value in values.items() if value not in (None, ""))


def _quoted(value: object) -> str:
    text = str(value)
    if not text or any(sign in text for sign in ' "=\n'):
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
    return text
