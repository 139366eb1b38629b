"""Which devices of those that the driver's library shows are this pod's, and what of them can be read."""

from __future__ import annotations

import pytest

from footplate_elastic.agent.devices import EnergyReading, LibraryMissing, NvmlDevices, load
from tests.support.nvml import (
    Device,
    Nvml,
    NVMLError,
    NVMLError_DriverNotLoaded,
    NVMLError_GpuIsLost,
    NVMLError_LibraryNotFound,
)

FIRST, SECOND = Device("GPU-1", 100, 300_000), Device("GPU-12", 200, 400_000)


def devices(library: Nvml, visible: str = "all") -> NvmlDevices:
    return NvmlDevices(visible, lambda: library)


@pytest.mark.parametrize(
    ("visible", "uuids"),
    [
        pytest.param("", ["GPU-1", "GPU-12"], id="not said"),
        pytest.param("all", ["GPU-1", "GPU-12"], id="all"),
        pytest.param("void", ["GPU-1", "GPU-12"], id="said in another way"),
        pytest.param("0", ["GPU-1", "GPU-12"], id="by a number of the machine's, not of the pod's"),
        pytest.param("GPU-12", ["GPU-12"], id="by name"),
        pytest.param("GPU-1", ["GPU-1"], id="by a name that another one begins with"),
        pytest.param("GPU-12, GPU-1", ["GPU-1", "GPU-12"], id="by names"),
        pytest.param("GPU-3", [], id="another pod's"),
    ],
)
def test_the_pod_has_the_devices_that_it_was_given(visible: str, uuids: list[str]) -> None:
    assert [uuid for uuid, _ in devices(Nvml(FIRST, SECOND), visible).read()] == uuids


@pytest.mark.parametrize(
    ("device", "shown"),
    [
        pytest.param(Device("GPU-1", 100, 300), [("GPU-1", EnergyReading(100, 300))], id="both"),
        pytest.param(Device("GPU-1", 100, None), [("GPU-1", EnergyReading(100, None))], id="counter"),
        pytest.param(Device("GPU-1", None, 300), [("GPU-1", EnergyReading(None, 300))], id="power"),
        pytest.param(Device("GPU-1", None, None), [("GPU-1", EnergyReading(None, None))], id="neither"),
        pytest.param(
            Device("GPU-1", 1, 3, sliced=None), [("GPU-1", EnergyReading(1, 3))], id="cannot be sliced"
        ),
        pytest.param(Device("GPU-1", 1, 3, sliced=True), [], id="the pod has a slice"),
    ],
)
def test_what_a_device_shows(device: Device, shown: list[tuple[str, EnergyReading]]) -> None:
    assert list(devices(Nvml(device)).read()) == shown


def test_one_that_is_lost_keeps_the_others_from_nothing_and_is_told() -> None:
    library = Nvml(Device("GPU-1", 100), Device("GPU-2", 200, lost=True), Device("GPU-3", 300))
    reading = devices(library).read()
    assert [next(reading)[0], next(reading)[0]] == ["GPU-1", "GPU-3"]
    with pytest.raises(NVMLError_GpuIsLost):
        next(reading)


def test_a_driver_that_was_loaded_anew_is_opened_anew() -> None:
    library = Nvml(Device("GPU-1", 100))
    ours = devices(library)
    assert list(ours.read()) == [("GPU-1", EnergyReading(100, None))]
    library.load_driver_anew()
    with pytest.raises(NVMLError):
        list(ours.read())
    assert list(ours.read()) == [("GPU-1", EnergyReading(0, None))]


def test_a_driver_that_is_not_loaded_yet_is_asked_again() -> None:
    library = Nvml(Device("GPU-1", 100))
    library.loaded = False
    ours = devices(library)
    with pytest.raises(NVMLError_DriverNotLoaded):
        list(ours.read())
    library.loaded = True
    assert list(ours.read()) == [("GPU-1", EnergyReading(100, None))]


def test_a_machine_without_the_driver_is_asked_no_more() -> None:
    library = Nvml()
    library.installed = False
    with pytest.raises(LibraryMissing, match="Not Found"):
        list(devices(library).read())


def test_the_package_is_the_one_that_we_know_and_this_machine_may_have_no_driver() -> None:
    """Not a fake: the names that are used exist, and are what they are taken for."""
    library = load()
    used = [name for name in dir(Nvml) if name.startswith(("nvml", "NVML"))]
    assert len(used) > 8 and [name for name in used if not hasattr(library, name)] == []
    errors = [library.NVMLError_NotSupported, library.NVMLError_FunctionNotFound]
    assert all(issubclass(error, library.NVMLError) for error in [*errors, library.NVMLError_LibraryNotFound])
    assert issubclass(NVMLError_LibraryNotFound, NVMLError)


def test_without_the_package_it_is_said_which_one_is_missing() -> None:
    with pytest.raises(LibraryMissing, match="nvidia-ml-py"):
        load("pynvml_of_no_package")
