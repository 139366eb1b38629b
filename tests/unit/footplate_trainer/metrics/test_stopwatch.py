"""Where the time of a step went, on a host and on a device that runs behind it."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from footplate_trainer.metrics.stopwatch import StepPart, Stopwatch


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class Device:
    """A stream: work takes device time, marks are passed once the device has come that far."""

    finished: float = 0.0
    queued: float = 0.0
    marks: list[Mark] = field(default_factory=list)

    def work(self, seconds: float) -> None:
        self.queued += seconds

    def mark(self) -> Mark:
        self.marks.append(Mark(self))
        return self.marks[-1]


@dataclass
class Mark:
    device: Device
    at: float = -1.0

    def record(self) -> None:
        self.at = self.device.queued

    def query(self) -> bool:
        return self.at <= self.device.finished

    def elapsed_time(self, end: Mark, /) -> float:
        return 1000 * (end.at - self.at)


def test_on_a_host_each_lap_belongs_to_its_part() -> None:
    clock = Clock()
    watch = Stopwatch(clock)
    laps = ((None, 9.0), (StepPart.DATA, 1.0), (StepPart.COMPUTE, 2.0), (StepPart.COMPUTE, 3.0))
    for part, seconds in laps:
        clock.pass_(seconds)
        watch.lap(part)
    assert watch.read_and_reset() == (15.0, {StepPart.DATA: 1.0, StepPart.COMPUTE: 5.0})
    assert watch.read_and_reset() == (0.0, {})


def test_what_is_timed_has_a_lap_of_its_own() -> None:
    clock = Clock()
    watch = Stopwatch(clock)
    clock.pass_(9.0)
    with watch.time(StepPart.CHECKPOINT):
        clock.pass_(2.0)
    clock.pass_(1.0)
    watch.lap(StepPart.DATA)
    assert watch.read_and_reset() == (12.0, {StepPart.CHECKPOINT: 2.0, StepPart.DATA: 1.0})


def test_what_is_timed_within_another_part_is_not_of_that() -> None:
    clock = Clock()
    watch = Stopwatch(clock)
    with watch.time(StepPart.DATA):
        clock.pass_(1.0)
        with watch.time(StepPart.ROLLOUT):
            clock.pass_(20.0)
        with watch.time(StepPart.SCORING):
            clock.pass_(4.0)
        clock.pass_(2.0)
    clock.pass_(8.0)
    with watch.time(StepPart.VALIDATION):
        clock.pass_(5.0)
    assert watch.read_and_reset() == (
        40.0,
        {StepPart.DATA: 3.0, StepPart.ROLLOUT: 20.0, StepPart.SCORING: 4.0, StepPart.VALIDATION: 5.0},
    )


def test_a_device_is_asked_and_not_waited_for() -> None:
    clock, device = Clock(), Device()
    watch = Stopwatch(clock, device.mark)
    clock.pass_(1.0)
    watch.lap(StepPart.DATA)
    device.work(5.0)
    watch.lap(StepPart.COMPUTE)
    device.finished = 5.0  # the host waits for the sums here
    clock.pass_(5.0)
    watch.lap(StepPart.COMMUNICATION)
    device.work(2.0)
    watch.lap(StepPart.OPTIMIZER)
    assert watch.read_and_reset() == (6.0, {StepPart.DATA: 1.0, StepPart.COMPUTE: pytest.approx(5.0)})
    device.finished = 7.0
    assert watch.read_and_reset() == (0.0, {StepPart.OPTIMIZER: pytest.approx(2.0)})
