"""The pod's devices and their energy, as reported by the driver's library (NVML).

A device is identified by its UUID, so that it stays the same after the driver was reloaded. A device of which
the pod has only a slice (MIG) is left out: its counter and its power are those of the whole device.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Final, Protocol

from footplate_elastic.agent.energy import EnergyReading

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
