"""A checkpoint rests while training goes on, and hurries when someone waits."""

from __future__ import annotations

import threading

import pytest

from footplate_trainer.checkpoint.durable.plan import REST, WriteThrottle


@pytest.mark.parametrize(
    ("pieces", "hurried", "rests"),
    [
        pytest.param([0.1, 0.2], False, [0.1 * REST, 0.2 * REST], id="after-each-piece"),
        pytest.param([0.0015, 0.0015], False, [0.003 * REST], id="small-pieces-together"),
        pytest.param([0.1], True, [], id="not-when-someone-waits"),
    ],
)
def test_rests(pieces: list[float], hurried: bool, rests: list[float]) -> None:
    urgent, taken = threading.Event(), Clock()
    if hurried:
        urgent.set()
    pace = WriteThrottle(urgent, taken.now, taken.rest)

    for piece in pieces:
        taken.time += piece
        pace.piece_done()

    assert taken.rests == pytest.approx(rests)


def test_a_rest_ends_when_someone_waits() -> None:
    urgent, clock = threading.Event(), Clock()
    pace = WriteThrottle(urgent, clock.now)
    clock.time += 1e6
    threading.Timer(0.01, urgent.set).start()

    pace.piece_done()

    assert urgent.is_set()


class Clock:
    """A time that passes when told."""

    def __init__(self) -> None:
        self.time = 0.0
        self.rests: list[float] = []

    def now(self) -> float:
        return self.time

    def rest(self, seconds: float) -> None:
        self.rests.append(seconds)
        self.time += seconds
