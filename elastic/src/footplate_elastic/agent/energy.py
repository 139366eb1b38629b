"""What one device has consumed, by samples as they come. Pure, and it keeps none of them but the last.

Of the time between two samples the difference of the device's energy counter tells it, or else the line
between its power at both ends. A counter that shows less than before has begun again, as it does when the
driver is loaded anew: what it shows now was consumed since. Where neither is known, or two samples of power
are far apart, that time is left out and nothing is guessed.

It is the arithmetic of `footplate_ledger.energy` for a series without an end, in whole numbers. A test holds
the two together; an agent, which registers before it imports anything large, does without that package.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

LONGEST_GAP: Final = 120  # seconds between two samples of power that are joined by a line


@dataclass(frozen=True, slots=True)
class Reading:
    """What a device shows; what it has not, or what cannot be read, is None."""

    millijoules: int | None  # its energy counter
    milliwatts: int | None  # its power


@dataclass
class DeviceEnergy:
    """Sums of one device since its first sample; seconds are whole ones of a clock that never goes back."""

    half_millijoules: int = 0  # the mean of two whole numbers has halves
    counter_seconds: int = 0
    power_seconds: int = 0
    _second: int = 0
    _last: Reading | None = None

    def take(self, second: int, shown: Reading) -> None:
        """One more sample; one that is not later than the last is passed over."""
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
