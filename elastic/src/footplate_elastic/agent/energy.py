"""Energy of a single device, summed from samples as they come; pure, and only the last one is stored.

Between two samples the energy is the difference of the device's energy counter, else the integral of the line
between its power at both ends. A counter that is lower than before has restarted, as it does when the driver
is reloaded: its value was consumed since. Where neither is known, or two power samples are far apart, that
time is left out and nothing is guessed.

It is the arithmetic of `footplate_ledger.energy` for a series without an end, in whole numbers. A test
compares the two; an agent, which registers before it imports anything large, does without that package.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

LONGEST_GAP: Final = 120  # seconds between two samples of power that are joined by a line


@dataclass(frozen=True, slots=True)
class EnergyReading:
    """A device's counters; a value that is unsupported or unreadable is None."""

    millijoules: int | None  # its energy counter
    milliwatts: int | None  # its power


@dataclass
class DeviceEnergy:
    """A device's sums since its first sample; seconds are whole ones of a monotonic clock."""

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
