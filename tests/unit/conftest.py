"""Unit tests decide; they do not talk. A network socket in one of them is a mistake, and fails it."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

_LOCAL = {socket.AF_UNIX}


class Guarded(socket.socket):
    """Has no peer beyond this process and its children."""

    def bind(self, address: Any, /) -> None:
        _refuse(self, address)
        super().bind(address)

    def connect(self, address: Any, /) -> None:
        _refuse(self, address)
        super().connect(address)


@pytest.fixture(scope="session", autouse=True)
def no_network() -> Iterator[None]:
    """Refuses every bind and connect of a network socket."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(socket, "socket", Guarded)
        yield


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Callable[[Mapping[str, str]], None]:
    """Makes variables the only ones of ours that this process has."""

    def tell(environment: Mapping[str, str]) -> None:
        for name in [*os.environ]:
            if name.startswith("FOOTPLATE_") or name == "KUBERNETES_SERVICE_HOST":
                monkeypatch.delenv(name)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)

    return tell


def _refuse(guarded: socket.socket, address: object) -> None:
    if guarded.family not in _LOCAL:
        pytest.fail(f"a unit test uses the network: {address!r}; it belongs under tests/component")
