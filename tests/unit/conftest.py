"""Unit tests decide; they do not talk. A network socket in one of them is a mistake, and fails it."""

from __future__ import annotations

import socket
from typing import Any

import pytest

_LOCAL = {socket.AF_UNIX}


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuses every bind and connect of a network socket."""

    class Guarded(socket.socket):
        def bind(self, address: Any, /) -> None:
            _refuse(self, address)
            super().bind(address)

        def connect(self, address: Any, /) -> None:
            _refuse(self, address)
            super().connect(address)

    monkeypatch.setattr(socket, "socket", Guarded)


def _refuse(guarded: socket.socket, address: object) -> None:
    if guarded.family not in _LOCAL:
        pytest.fail(f"a unit test uses the network: {address!r}; it belongs under tests/component")
