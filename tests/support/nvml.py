"""A driver's library as the package nvidia-ml-py shows it, with devices that a test plays."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from footplate_elastic.agent.devices import LONGEST_GAP
from footplate_ledger.energy import Consumption, EnergyMethod
from footplate_ledger.intervals import Interval
from footplate_ledger.units import Energy, Power, Seconds


class NVMLError(Exception):
    """Base of what the library raises."""


class NVMLError_NotSupported(NVMLError):
    """The device has no such thing."""


class NVMLError_FunctionNotFound(NVMLError):
    """The driver is older than the question."""


class NVMLError_LibraryNotFound(NVMLError):
    """This machine has no driver."""


class NVMLError_DriverNotLoaded(NVMLError):
    """It is being loaded, or broken."""


class NVMLError_Uninitialized(NVMLError):
    """What was opened before the driver was loaded anew."""


class NVMLError_GpuIsLost(NVMLError):
    """It fell off the bus."""


@dataclass
class Device:
    """What it shows: millijoules since its driver was loaded, and milliwatts; None: it has no such thing."""

    uuid: str
    millijoules: int | None = 0
    milliwatts: int | None = None
    sliced: bool | None = False  # None: of a kind that cannot be
    lost: bool = False
    burns: int = 0  # millijoules from one look to the next


class Nvml:
    """The module `pynvml`."""

    NVMLError = NVMLError
    NVMLError_NotSupported = NVMLError_NotSupported
    NVMLError_FunctionNotFound = NVMLError_FunctionNotFound
    NVMLError_LibraryNotFound = NVMLError_LibraryNotFound
    NVML_DEVICE_MIG_ENABLE = 1

    def __init__(self, *devices: Device) -> None:
        self.devices = list(devices)
        self.installed = True  # whether the machine has the driver
        self.loaded = True  # whether it is loaded now
        self.broken: Exception | None = None  # what is raised beside the library's own errors
        self.answers = threading.Event()  # a driver that hangs does not
        self.answers.set()
        self.asked = threading.Event()  # that it hangs is seen when it was asked
        self._driver = 0  # counts up with each that is loaded
        self._opened: int | None = None

    def load_driver_anew(self) -> None:
        """All counters begin at zero, and whoever had opened the library has to do it again."""
        self._driver += 1
        for device in self.devices:
            device.millijoules = 0 if device.millijoules is not None else None

    # -- what the package has --------------------------------------------------------------

    def nvmlInit(self) -> None:
        if not self.installed:
            raise NVMLError_LibraryNotFound("NVML Shared Library Not Found")
        if not self.loaded:
            raise NVMLError_DriverNotLoaded("Driver Not Loaded")
        self._opened = self._driver

    def nvmlShutdown(self) -> None:
        self._check()
        self._opened = None

    def nvmlDeviceGetCount(self) -> int:
        self._check()
        return len(self.devices)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Device:
        self._check()
        if self.devices[index].lost:
            raise NVMLError_GpuIsLost("GPU is lost")
        return self.devices[index]

    def nvmlDeviceGetUUID(self, device: Device) -> str:
        return self._on(device).uuid

    def nvmlDeviceGetMigMode(self, device: Device) -> list[int]:
        sliced = _had(self._on(device).sliced)
        return [int(sliced), int(sliced)]

    def nvmlDeviceGetTotalEnergyConsumption(self, device: Device) -> int:
        shown = _had(self._on(device).millijoules)
        device.millijoules = shown + device.burns
        return shown

    def nvmlDeviceGetPowerUsage(self, device: Device) -> int:
        return _had(self._on(device).milliwatts)

    def _check(self) -> None:
        self.asked.set()
        self.answers.wait()
        if self.broken is not None:
            raise self.broken
        if self._opened != self._driver:
            raise NVMLError_Uninitialized("Uninitialized")

    def _on(self, device: Device) -> Device:
        self._check()
        if device.lost:
            raise NVMLError_GpuIsLost("GPU is lost")
        return device


def _had(value: int | None) -> int:
    if value is None:
        raise NVMLError_NotSupported("Not Supported")
    return value


# -- what a device consumed, out of all that it showed ---------------------------------------------


@dataclass(frozen=True, slots=True, order=True)
class Sample:
    """What a device showed in one second; a counter or a power that it has not is None."""

    second: int
    counter: Energy | None = None
    power: Power | None = None


def of_device(samples: Iterable[Sample], span: Interval, rated: Power | None) -> Consumption:
    """What one device consumed in `span`; the same for any order and repetition of `samples`.

    Between two samples it consumed evenly by its counter, along a line by its power: parts of a span
    are together the span.
    """
    known = sorted(set(samples), key=lambda sample: sample.second)
    if not known:
        return _rated(span.seconds, rated)
    found = _rated(span.within(Interval(span.start, known[0].second)).seconds, rated)
    for first, last in pairwise(known):
        part = Interval(first.second, last.second).within(span)
        if part:
            found = found + _between(first, last, part, rated)
    return found + _rated(span.within(Interval(known[-1].second, span.end)).seconds, rated)


def _between(first: Sample, last: Sample, part: Interval, rated: Power | None) -> Consumption:
    """What was consumed in `part` of the time from `first` to `last`."""
    length = last.second - first.second
    if first.counter is not None and last.counter is not None:
        since = last.counter - first.counter if last.counter >= first.counter else last.counter
        return _known(EnergyMethod.COUNTER, since * (part.seconds.exact / length), part.seconds)
    if length <= LONGEST_GAP and first.power is not None and last.power is not None:
        middle = Fraction(part.start + part.end, 2) - first.second
        mean = first.power + (last.power - first.power) * (middle / length)
        return _known(EnergyMethod.POWER, mean * part.seconds, part.seconds)
    return _rated(part.seconds, rated)


def _rated(seconds: Seconds, rated: Power | None) -> Consumption:
    if not seconds.exact:
        return Consumption()
    if rated is None:
        return Consumption(seconds={EnergyMethod.UNKNOWN: seconds})
    return _known(EnergyMethod.RATED, rated * seconds, seconds)


def _known(method: EnergyMethod, energy: Energy, seconds: Seconds) -> Consumption:
    return Consumption({method: energy} if energy.exact else {}, {method: seconds})
