"""Stands in for nvidia-ml-py in agents that a test starts: two devices of 300 W, and one of 900 W."""

import time


class NVMLError(Exception):
    """Nothing goes wrong here."""


class NVMLError_NotSupported(NVMLError):
    """Of devices that cannot be sliced."""


NVMLError_FunctionNotFound = NVMLError_LibraryNotFound = NVMLError_NotSupported
NVML_DEVICE_MIG_ENABLE = 1
MILLIWATTS = (300_000, 300_000, 900_000)


def nvmlInit() -> None:
    """It is there."""


def nvmlShutdown() -> None:
    """It is not needed any more."""


def nvmlDeviceGetCount() -> int:
    return len(MILLIWATTS)


def nvmlDeviceGetHandleByIndex(index: int) -> int:
    return index


def nvmlDeviceGetUUID(device: int) -> str:
    return f"GPU-{device}"


def nvmlDeviceGetMigMode(device: int) -> list[int]:
    raise NVMLError_NotSupported


def nvmlDeviceGetTotalEnergyConsumption(device: int) -> int:
    return int(time.monotonic() * MILLIWATTS[device])


def nvmlDeviceGetPowerUsage(device: int) -> int:
    return MILLIWATTS[device]
