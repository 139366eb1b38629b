"""Logs the output of reward functions as lines of the rank's log, up to a limit."""

from __future__ import annotations

import logging
import re
import threading
from typing import Final

from footplate_trainer.rewards.redaction import Redactor

logger = logging.getLogger(__name__)

LINES: Final = 1000  # of one process; a function that prints for each answer fills no disk
LINE: Final = 500  # characters of one line
_UNPRINTABLE: Final = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f]"
)  # escapes of terminals, and other lines' ends


class OutputLines:
    """A splitter of a byte stream into log lines."""

    def __init__(self, hidden: Redactor, lines: int = LINES, longest: int = LINE) -> None:
        self._hidden = hidden
        self._left = lines
        self._longest = longest
        self._begun = b""
        self._cut = False  # the line under way is longer than what is shown, and was shown

    def feed(self, chunk: bytes) -> list[str]:
        """Add `chunk` and return the lines to log."""
        *whole, self._begun = (self._begun + chunk).split(b"\n")
        lines = [] if self._cut and whole else [whole[0]] if whole else []
        lines += whole[1:]
        if whole:
            self._cut = False
        if self._cut:
            self._begun = b""
        elif len(self._begun) > 4 * self._longest:  # no line of so many characters is waited for
            lines.append(self._begun)
            self._begun, self._cut = b"", True
        return self._told(lines)

    def flush(self) -> list[str]:
        """Return the last line, which has no line end."""
        return self._told([self._begun] if self._begun else [])

    def _told(self, lines: list[bytes]) -> list[str]:
        texts = [self._text(line) for line in lines if line.strip()]
        told = texts[: self._left]
        if self._left and len(texts) >= self._left:
            told.append("… what it prints from here on is left out")
        self._left -= min(len(texts), self._left)
        return told

    def _text(self, line: bytes) -> str:
        text = self._hidden.redact_text(_UNPRINTABLE.sub(" ", line.decode(errors="replace")).rstrip())
        return text if len(text) <= self._longest else f"{text[: self._longest]}…"


def start_logging_lines(reading: int, reward: str, hidden: Redactor) -> None:
    """Log the lines from the file descriptor `reading` in a thread until it ends, then close it."""

    def read() -> None:
        lines = OutputLines(hidden)
        with open(reading, "rb", buffering=0) as stream:
            while chunk := stream.read(1 << 16):
                _log(reward, lines.feed(chunk))
        _log(reward, lines.flush())

    threading.Thread(target=read, name=f"prints-of-{reward}", daemon=True).start()


def _log(reward: str, lines: list[str]) -> None:
    for line in lines:
        logger.info("reward %s prints: %s", reward, line)
