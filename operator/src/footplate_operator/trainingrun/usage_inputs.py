"""Conversion of a run's pods and attempts to usage records' terms; pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction

from footplate_contracts.energy import PodEnergy
from footplate_contracts.v1alpha1.status import Attempt
from footplate_ledger.intervals import unix_second
from footplate_ledger.units import Energy, Seconds
from footplate_ledger.usage import MeasuredEnergy
from footplate_operator.runtime.clock import parse_time
from footplate_operator.trainingrun.revision import Revision
from footplate_operator.usage.pods import PodProfile


def terms(admitted: object) -> PodProfile:
    """Return the profile of a run admitted as `admitted`; empty terms if that is no readable revision."""
    if not isinstance(admitted, Revision):
        return PodProfile()
    return PodProfile(admitted.frozen.profile_name, admitted.frozen.profile)


def energy_by_pod(energy: Iterable[PodEnergy]) -> dict[str, MeasuredEnergy]:
    """Return the energy of pods, by uid, that their coordinator measured."""
    return {
        told.pod_uid: MeasuredEnergy(
            Energy(Fraction(told.millijoules)),
            Seconds(Fraction(told.counter_seconds)),
            Seconds(Fraction(told.power_seconds)),
        )
        for told in energy
    }


def attempt_at(attempts: Sequence[Attempt], start: int) -> int:
    """Return the number of the attempt to which a pod belongs that was bound in the second `start`.

    It is the first that had not ended by then: the time between two attempts prepares the next.
    """
    for attempt in attempts:
        if attempt.end is None or start < unix_second(parse_time(attempt.end)):
            return attempt.number
    return attempts[-1].number + 1 if attempts else 1
