"""What is told of a pod's devices, whatever these and their library do."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator

import pytest

from footplate_contracts.energy import PodEnergy
from footplate_contracts.rendezvous import AgentIdentity
from footplate_elastic.agent.client import Endpoint
from footplate_elastic.agent.devices import EnergyReading, LibraryMissing, NvmlDevices
from footplate_elastic.agent.energy_meter import EnergyMeter
from footplate_elastic.agent.session import Session
from tests.support.clock import Clock
from tests.support.nvml import Device, Nvml

LONG = 60.0  # for what takes no time


class Measured:
    """A meter over a fake library; `after` lets seconds pass and looks."""

    def __init__(self, *devices: Device) -> None:
        self.library = Nvml(*devices)
        self.clock = Clock()
        self.meter = EnergyMeter("pod-1", NvmlDevices("", lambda: self.library), self.clock)
        self.meter.sample()

    def after(self, seconds: float) -> tuple[int, int, int] | None:
        self.clock.seconds += seconds
        self.meter.sample()
        known = self.meter.energy
        return (known.millijoules, known.counter_seconds, known.power_seconds) if known else None


def test_sums_are_of_all_devices_together() -> None:
    run = Measured(Device("GPU-1", 1000), Device("GPU-2", None, 500))
    assert run.meter.energy is None, "nothing is told before there is anything"
    run.library.devices[0].millijoules = 4000
    assert run.after(10) == (3000 + 5000, 10, 10)
    assert run.meter.energy is not None and run.meter.energy.pod_uid == "pod-1"


def test_halves_of_two_devices_are_a_whole() -> None:
    run = Measured(Device("GPU-1", None, 1), Device("GPU-2", None, 1))
    for device in run.library.devices:
        device.milliwatts = 2
    assert run.after(1) == (3, 0, 2)


def test_a_driver_that_is_loaded_anew_loses_nothing_of_what_was_known() -> None:
    run = Measured(Device("GPU-1", 1000))
    run.library.devices[0].millijoules = 4000
    assert run.after(10) == (3000, 10, 0)
    run.library.load_driver_anew()
    assert run.after(10) == (3000, 10, 0), "what was open before is not any more"
    run.library.devices[0].millijoules = 700
    assert run.after(10) == (3700, 30, 0), "what its counter shows now was consumed since"


def test_a_device_that_is_gone_keeps_its_sums_and_goes_on_when_it_is_back() -> None:
    run = Measured(Device("GPU-1", 100), Device("GPU-2", 100))
    first, second = run.library.devices
    first.millijoules = second.millijoules = 300
    assert run.after(10) == (400, 20, 0)
    first.lost = True
    second.millijoules = 500
    assert run.after(10) == (600, 30, 0)
    run.library.devices = [second]
    assert run.after(10) == (600, 40, 0)
    run.library.devices, first.lost, first.millijoules = [first, second], False, 1300
    assert run.after(10) == (1600, 40 + 10 + 30, 0), "its counter tells of the time between, too"


def test_power_alone_leaves_a_gap_out() -> None:
    run = Measured(Device("GPU-1", None, 1000))
    assert run.after(10) == (10_000, 0, 10)
    run.library.broken = OSError("the driver is upset")
    assert run.after(10) == (10_000, 0, 10)
    run.library.broken = None
    assert run.after(200) == (10_000, 0, 10)
    assert run.after(10) == (20_000, 0, 20)


def test_a_clock_that_is_set_back_changes_nothing() -> None:
    """The clock is monotonic; were it not, sums would stand still until it has caught up, and never fall."""
    run = Measured(Device("GPU-1", 0))
    run.library.devices[0].millijoules = 100
    assert run.after(10) == (100, 10, 0)
    run.library.devices[0].millijoules = 200
    assert run.after(-7) == (100, 10, 0)
    assert run.after(17) == (200, 20, 0)


@pytest.mark.parametrize("broken", [OSError("the driver is upset"), AttributeError("nvmlNothing")])
def test_whatever_the_library_raises_is_said_once_and_its_end_once(
    broken: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    run = Measured(Device("GPU-1", 0))
    with caplog.at_level(logging.INFO):
        run.library.broken = broken
        run.after(10)
        run.after(10)
        run.library.broken = None
        run.after(10)
        run.after(10)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert str(broken) in caplog.text


def test_what_no_record_can_hold_is_not_told_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    run = Measured(Device("GPU-1", 0))
    run.library.devices[0].millijoules = 300
    assert run.after(10) == (300, 10, 0)
    for counter in (2**63, 2**64 - 1):
        run.library.devices[0].millijoules = counter
        assert run.after(10) == (300, 10, 0), "what was told before stands"
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "millijoules: Input should be less than or equal to 1000000000000000" in caplog.text


def test_where_no_device_is_shown_it_is_said_once_and_nothing_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    run = Measured(Device("GPU-1", 5, sliced=True))
    assert run.after(10) is None
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "the pod has no whole device" in caplog.text


def test_a_meter_of_no_devices_measures_nothing_and_holds_nobody_up() -> None:
    meter = EnergyMeter()
    meter.start()
    meter.refresh(LONG)
    assert meter.energy is None


# -- its thread ------------------------------------------------------------------------


def started(library: Nvml, period: float) -> EnergyMeter:
    ticks = iter(range(0, 10**6, 10))  # ten seconds from one look to the next
    meter = EnergyMeter("pod-1", NvmlDevices("", lambda: library), lambda: float(next(ticks)), period)
    meter.start()
    return meter


def test_a_look_reaches_up_to_now_though_the_next_one_is_far() -> None:
    meter = started(Nvml(Device("GPU-1", 0, burns=100)), period=1e6)
    meter.refresh(LONG)
    meter.refresh(LONG)
    assert meter.energy is not None and meter.energy.millijoules >= 100
    before = meter.energy
    meter.refresh(LONG)
    assert meter.energy == PodEnergy(
        pod_uid="pod-1",
        millijoules=before.millijoules + 100,
        counter_seconds=before.counter_seconds + 10,
        power_seconds=0,
    )


def test_the_end_of_ranks_is_told_with_what_their_devices_consumed_until_then() -> None:
    meter = started(Nvml(Device("GPU-1", 0, burns=100)), period=1e6)
    agent = AgentIdentity(index=0, incarnation=0, pod_name="w0", address="10.0.0.1", local_world_size=1)
    session = Session(agent, Endpoint("", "10.0.0.2", 1, "", None), None, meter)
    meter.refresh(LONG)
    meter.refresh(LONG)
    before = meter.energy
    session.report_end(suspended=False)
    assert before is not None and meter.energy is not None
    assert meter.energy.counter_seconds == before.counter_seconds + 10


def test_looks_follow_each_other_by_themselves() -> None:
    looked = threading.Semaphore(0)

    class Counted:
        left = 3

        def read(self) -> Iterator[tuple[str, EnergyReading]]:
            if not self.left:  # or its thread would look for as long as there are tests
                raise LibraryMissing("no package")
            self.left -= 1
            looked.release()
            yield "GPU-1", EnergyReading(1, 1)

    EnergyMeter("pod-1", Counted(), period=0.0).start()
    assert all(looked.acquire(timeout=LONG) for _ in range(3))


def test_a_driver_that_hangs_holds_nobody_up_and_what_was_known_stands() -> None:
    library = Nvml(Device("GPU-1", 0, burns=100))
    meter = started(library, period=1e6)
    meter.refresh(LONG)
    meter.refresh(LONG)
    known = meter.energy
    assert known is not None
    library.asked.clear()
    library.answers.clear()
    meter.refresh(0.01)
    assert library.asked.wait(LONG) and meter.energy == known
    library.answers.set()
    meter.refresh(LONG)
    assert meter.energy is not None and meter.energy.counter_seconds > known.counter_seconds


def test_without_a_library_there_is_one_line_and_nobody_waits(caplog: pytest.LogCaptureFixture) -> None:
    library = Nvml()
    library.installed = False
    meter = started(library, period=0.0)
    before = time.monotonic()
    for _ in range(3):
        meter.refresh(LONG)
    assert meter.energy is None and time.monotonic() - before < LONG
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_a_missing_library_is_no_trouble_that_may_pass() -> None:
    def none() -> Nvml:
        raise LibraryMissing("no package")

    with pytest.raises(LibraryMissing):
        EnergyMeter("pod-1", NvmlDevices("", none)).sample()
