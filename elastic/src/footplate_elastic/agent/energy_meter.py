"""Measures the energy of this pod's devices in a thread of its own.

A driver's library may hang for as long as a device does, so a thread that nobody waits for reads it: the
threads that talk to the coordinator use the last known sums.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable

from pydantic import ValidationError

from footplate_contracts.base import first_error
from footplate_contracts.energy import PodEnergy
from footplate_elastic.agent import timing
from footplate_elastic.agent.devices import DeviceEnergy, Devices, LibraryMissing

_log = logging.getLogger(__name__)


class EnergyMeter:
    """Background meter; `energy` has the latest sums, None before any, and always without `devices`.

    `clock` is monotonic: a change of the time of day makes no gap.
    """

    def __init__(
        self,
        pod_uid: str = "",
        devices: Devices | None = None,
        clock: Callable[[], float] = time.monotonic,
        period: float = timing.SAMPLE,
    ) -> None:
        self.energy: PodEnergy | None = None
        self._pod_uid = pod_uid
        self._devices = devices
        self._clock = clock
        self._period = period
        self._known: dict[str, DeviceEnergy] = {}  # by UUID, also of those that are gone
        self._troubled = False
        self._asked: queue.SimpleQueue[threading.Event] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._measure, name="footplate-energy", daemon=True)

    def start(self) -> None:
        """Start measuring."""
        if self._devices is not None:
            self._thread.start()

    def refresh(self, seconds: float) -> None:
        """Update `energy` to now, which takes milliseconds; wait no longer than `seconds`."""
        if self._thread.is_alive():
            done = threading.Event()
            self._asked.put(done)
            done.wait(seconds)

    def sample(self) -> None:
        """Read the devices once; raises LibraryMissing."""
        assert self._devices is not None
        seen = False
        try:
            for uuid, shown in self._devices.read():
                seen = True
                if shown.millijoules is not None or shown.milliwatts is not None:
                    self._known.setdefault(uuid, DeviceEnergy()).add_reading(int(self._clock()), shown)
            trouble = "" if seen else "the pod has no whole device"
        except LibraryMissing:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a driver's library raises, the ranks go on
            trouble = f"{type(error).__name__}: {error}"
        try:
            self.energy = self._sums()
        except ValidationError as error:  # what a device shows cannot be; what was told before stands
            trouble = first_error(error)
        self._note(trouble)

    def _sums(self) -> PodEnergy | None:
        known = list(self._known.values())
        counter_seconds = sum(device.counter_seconds for device in known)
        power_seconds = sum(device.power_seconds for device in known)
        if not counter_seconds and not power_seconds:
            return None
        return PodEnergy(
            pod_uid=self._pod_uid,
            millijoules=sum(device.half_millijoules for device in known) // 2,
            counter_seconds=counter_seconds,
            power_seconds=power_seconds,
        )

    def _note(self, trouble: str) -> None:
        """Log once when devices become unreadable, and once when they are readable again."""
        if trouble and not self._troubled:
            _log.warning("energy is not measured, or not of all devices: %s", trouble)
        elif self._troubled and not trouble:
            _log.info("the energy of all devices is measured again")
        self._troubled = bool(trouble)

    def _measure(self) -> None:
        asked: threading.Event | None = None
        try:
            while True:
                self.sample()
                if asked is not None:
                    asked.set()
                asked = self._next()
        except LibraryMissing as missing:
            _log.warning("energy is not measured: %s", missing)
            while True:
                self._asked.get().set()

    def _next(self) -> threading.Event | None:
        """Wait until the next sample is due or another thread requests one."""
        try:
            return self._asked.get(timeout=self._period)
        except queue.Empty:
            return None
