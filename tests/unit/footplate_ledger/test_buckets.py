"""Buckets sum to what was used, however often somebody looked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce
from itertools import pairwise

from hypothesis import strategies as st

from footplate_contracts.v1alpha1.status import TimeStatus
from footplate_ledger.device_activity import _OF_TIME, DeviceActivity, Sums, add_sums, split_by_activity
from footplate_ledger.units import Seconds
from tests.support.properties import given


def seconds(number: int | Fraction) -> Seconds:
    return Seconds(Fraction(number))


def test_every_member_of_status_time_has_a_bucket() -> None:
    assert set(_OF_TIME) == set(TimeStatus.model_fields)


def test_spares_and_what_stands_wait() -> None:
    assert split_by_activity(seconds(8), seconds(2), {}) == {DeviceActivity.WAITING: seconds(10)}
    assert split_by_activity(seconds(8), seconds(2), {"suspended": Fraction(3)}) == {
        DeviceActivity.WAITING: seconds(10)
    }
    assert split_by_activity(seconds(8), seconds(2), {"starting": Fraction(3)}) == {
        DeviceActivity.STARTING: seconds(8),
        DeviceActivity.WAITING: seconds(2),
    }


@dataclass(frozen=True)
class Stretch:
    """A part of a run's life in which one member of its time grows, or in Running several, evenly."""

    length: int
    devices: int
    spares: int
    parts: Mapping[str, Fraction]  # of a second

    def looked_at(self, looks: Sequence[int]) -> Sums:
        edges = sorted({0, self.length, *(look for look in looks if look < self.length)})
        found: Sums = {}
        for start, end in pairwise(edges):
            passed = {name: part * (end - start) for name, part in self.parts.items()}
            workers, spares = (seconds(number * (end - start)) for number in (self.devices, self.spares))
            found = add_sums(found, split_by_activity(workers, spares, passed))
        return found


RUNNING = st.tuples(st.integers(1, 9), st.integers(0, 9), st.integers(0, 9)).map(
    lambda parts: {
        name: Fraction(part, sum(parts))
        for name, part in zip(("productive", "recomputed", "checkpointing"), parts, strict=True)
    }
)
STANDING = st.sampled_from(["queued", "starting", "restarting", "checkpointing", "suspended"]).map(
    lambda name: {name: Fraction(1)}
)
STRETCHES = st.builds(Stretch, st.integers(0, 600), st.integers(0, 64), st.integers(0, 8), RUNNING | STANDING)


@given(st.lists(STRETCHES, max_size=5), st.lists(st.integers(1, 600), max_size=8), examples=50)
def test_rare_and_frequent_looks_give_the_same_sums(periods: list[Stretch], looks: list[int]) -> None:
    rare = reduce(add_sums, (period.looked_at([]) for period in periods), {})
    frequent = reduce(add_sums, (period.looked_at(looks) for period in periods), {})
    assert rare == frequent
    used = sum(period.length * (period.devices + period.spares) for period in periods)
    assert sum(part.exact for part in rare.values()) == used
