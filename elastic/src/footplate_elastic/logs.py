"""One log format for coordinator and agents: UTC with milliseconds, so that lines of several pods compare."""

from __future__ import annotations

import logging
import time


def configure(speaker: str) -> None:
    """Log to stderr; `speaker` tells the agent's own lines from those of its ranks."""
    formatter = logging.Formatter(
        f"%(asctime)s.%(msecs)03dZ {speaker} %(levelname)s %(message)s", datefmt="%Y-%m-%dT%H:%M:%S"
    )
    formatter.converter = time.gmtime
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    logging.basicConfig(level=logging.INFO, handlers=[handler])
