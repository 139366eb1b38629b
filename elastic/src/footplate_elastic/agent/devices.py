"""The pod's devices and their energy, as reported by the driver's library (NVML).

A device is identified by its UUID, so that it stays the same after the driver was reloaded. A device of which
the pod has only a slice (MIG) is left out: its counter and its power are those of the whole device.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Protocol

LONGEST_GAP: Final = 120  # seconds between two samples of power that are joined by a line


@dataclass(frozen=True, slots=True)
class EnergyReading:
    """A device's counters; a value that is unsupported or unreadable is None."""

    millijoules: int | None  # its energy counter
    milliwatts: int | None  # its power


@dataclass
class DeviceEnergy:
    """A device's sums since its first sample; seconds are whole ones of a monotonic clock. Pure.

    Between two samples the energy is the difference of the device's energy counter, else the integral of the
    line between its power at both ends. A counter that is lower than before has restarted, as it does when
    the driver is reloaded: its value was consumed since. Where neither is known, or two power samples are far
    apart, that time is left out and nothing is guessed.

    It is the arithmetic of `footplate_ledger.energy` for a series without an end, in whole numbers; a test
    compares the two. An agent registers before it imports anything large, so it does without that package.
    """

    half_millijoules: int = 0  # the mean of two whole numbers has halves
    counter_seconds: int = 0
    power_seconds: int = 0
    _second: int = 0
    _last: EnergyReading | None = None

    def add_reading(self, second: int, shown: EnergyReading) -> None:
        """Add a sample; one that is not later than the last is ignored."""
        before, length = self._last, second - self._second
        if before is not None and length <= 0:
            return
        self._second, self._last = second, shown
        if before is None:
            return
        if before.millijoules is not None and shown.millijoules is not None:
            began_again = shown.millijoules < before.millijoules
            since = shown.millijoules - (0 if began_again else before.millijoules)
            self.half_millijoules += 2 * since
            self.counter_seconds += length
        elif before.milliwatts is not None and shown.milliwatts is not None and length <= LONGEST_GAP:
            self.half_millijoules += (before.milliwatts + shown.milliwatts) * length
            self.power_seconds += length


VISIBLE_DEVICES: Final = "NVIDIA_VISIBLE_DEVICES"  # the device plugin names the pod's devices in it
_UUID: Final = "GPU-"  # other values, such as "all", name none that could be told from the rest


class LibraryMissing(Exception):
    """The driver's library is missing and will stay so."""


class Devices(Protocol):
    """Devices whose energy can be read."""

    def read(self) -> Iterator[tuple[str, EnergyReading]]:
        """Yield each device's UUID and reading as it is read; then raise the first read error, if any.

        Raises LibraryMissing where retrying is of no use.
        """
        ...


def load(module: str = "pynvml") -> Any:
    """Return the module of the package nvidia-ml-py; raises LibraryMissing."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise LibraryMissing(f"the package nvidia-ml-py is not installed: {error}") from None


class NvmlDevices:
    """Devices that NVML reports in this container; `visible` is the value of VISIBLE_DEVICES.

    After an error the library is opened anew: a reloaded driver is a new one.
    """

    def __init__(self, visible: str, load: Callable[[], Any] = load) -> None:
        self._wanted = tuple(name for name in map(str.strip, visible.split(",")) if name.startswith(_UUID))
        self._load = load
        self._open = False

    def read(self) -> Iterator[tuple[str, EnergyReading]]:
        """Yield UUIDs and readings; see Devices.read."""
        library = self._load()
        try:
            if not self._open:
                library.nvmlInit()
                self._open = True
            yield from self._readings(library)
        except library.NVMLError_LibraryNotFound as error:
            raise LibraryMissing(str(error)) from None
        except library.NVMLError:
            self._open = False
            with suppress(library.NVMLError):
                library.nvmlShutdown()
            raise

    def _readings(self, library: Any) -> Iterator[tuple[str, EnergyReading]]:
        errors: list[Exception] = []
        for index in range(library.nvmlDeviceGetCount()):
            try:
                device = library.nvmlDeviceGetHandleByIndex(index)
                uuid = str(library.nvmlDeviceGetUUID(device))
                sliced = _sliced(library, device)
            except library.NVMLError as error:
                errors.append(error)
                continue
            if sliced or not self._ours(uuid):
                continue
            counter = _shown(library, library.nvmlDeviceGetTotalEnergyConsumption, device, errors)
            yield (
                uuid,
                EnergyReading(counter, _shown(library, library.nvmlDeviceGetPowerUsage, device, errors)),
            )
        if errors:
            raise errors[0]

    def _ours(self, uuid: str) -> bool:
        return not self._wanted or uuid in self._wanted


def _sliced(library: Any, device: Any) -> bool:
    try:
        current, _ = library.nvmlDeviceGetMigMode(device)
    except (library.NVMLError_NotSupported, library.NVMLError_FunctionNotFound):
        return False
    return bool(current == library.NVML_DEVICE_MIG_ENABLE)


def _shown(library: Any, ask: Callable[[Any], int], device: Any, errors: list[Exception]) -> int | None:
    """Return the device's value, None if unsupported or on an error, which is added to `errors`."""
    try:
        return ask(device)
    except (library.NVMLError_NotSupported, library.NVMLError_FunctionNotFound):
        return None
    except library.NVMLError as error:
        errors.append(error)
        return None
