"""JSON messages between a rank and a reward function's process: 8 bytes of length, and the text."""

from __future__ import annotations

import json
import struct
from typing import Any, Final

_LENGTH: Final = struct.Struct("!Q")
LARGEST: Final = 1 << 30  # bytes; whatever asks for more has lost the thread


class NotAMessage(ValueError):
    """The bytes are not those of a message."""


def encode(content: object) -> bytes:
    """Return the bytes of a message; halves of surrogate pairs are escaped, as JSON allows."""
    text = json.dumps(content).encode()
    return _LENGTH.pack(len(text)) + text


class MessageReader:
    """An incremental parser of messages."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def feed(self, chunk: bytes) -> list[Any]:
        """Return the messages that `chunk` completes; raises NotAMessage."""
        self._bytes += chunk
        found = []
        while len(self._bytes) >= _LENGTH.size:
            [length] = _LENGTH.unpack_from(self._bytes)
            if length > LARGEST:
                raise NotAMessage(f"a message of {length} bytes")
            if len(self._bytes) < _LENGTH.size + length:
                break
            text = bytes(self._bytes[_LENGTH.size : _LENGTH.size + length])
            del self._bytes[: _LENGTH.size + length]
            try:
                found.append(json.loads(text))
            except ValueError as error:
                raise NotAMessage(str(error)) from None
        return found
