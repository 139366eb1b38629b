"""Time of a run's devices by activity, while it held them; pure.

| bucket | devices |
|---|---|
| productive | of steps that counted |
| checkpointing | that stood still for a checkpoint |
| recomputed | of steps that had been trained before |
| starting | while pods, rendezvous and loading are under way |
| restarting | after faults |
| waiting | held while the run stands: spares, and all of a run that is queued, suspended or over |

`status.wallSeconds` splits the wall time and only grows: its growth between two observations divides the
devices' time between them. In all phases but Running it grows in one bucket, and a run's devices do not
change within Running, so that an observation every few minutes gives the sums of one every second.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from fractions import Fraction
from typing import Final

from footplate_ledger.units import Seconds


class DeviceActivity(StrEnum):
    """Activity in a second of a device."""

    PRODUCTIVE = "productive"
    CHECKPOINTING = "checkpointing"
    RECOMPUTED = "recomputed"
    STARTING = "starting"
    RESTARTING = "restarting"
    WAITING = "waiting"


_OF_TIME: Final = {
    "queued": DeviceActivity.WAITING,
    "suspended": DeviceActivity.WAITING,
    **{
        bucket.value: bucket
        for bucket in (
            DeviceActivity.PRODUCTIVE,
            DeviceActivity.CHECKPOINTING,
            DeviceActivity.RECOMPUTED,
            DeviceActivity.STARTING,
            DeviceActivity.RESTARTING,
        )
    },
}
Sums = Mapping[DeviceActivity, Seconds]


def split_by_activity(workers: Seconds, spares: Seconds, passed: Mapping[str, Fraction]) -> Sums:
    """Split seconds of devices by bucket: those of `workers` as `passed` says, those of `spares` wait.

    `passed` is by how much each member of `status.wallSeconds` grew. Where none did, the run stood.

    >>> passed = {"productive": Fraction(9), "recomputed": Fraction(1)}
    >>> found = split_by_activity(Seconds(Fraction(80)), Seconds(Fraction(8)), passed)
    >>> {bucket.value: int(seconds.exact) for bucket, seconds in found.items()}
    {'productive': 72, 'recomputed': 8, 'waiting': 8}
    """
    whole = sum(passed.values(), Fraction(0))
    found: dict[DeviceActivity, Seconds] = {}
    for name, seconds in passed.items():
        if seconds:
            _add(found, _OF_TIME[name], workers * (seconds / whole))
    _add(found, DeviceActivity.WAITING, spares if whole else workers + spares)
    return {bucket: seconds for bucket, seconds in found.items() if seconds.exact}


def add_sums(known: Sums, more: Sums) -> Sums:
    """Add two sums by bucket."""
    found = dict(known)
    for bucket, seconds in more.items():
        _add(found, bucket, seconds)
    return found


def _add(sums: dict[DeviceActivity, Seconds], bucket: DeviceActivity, seconds: Seconds) -> None:
    sums[bucket] = sums.get(bucket, Seconds()) + seconds
