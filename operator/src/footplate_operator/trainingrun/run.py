"""TrainingRun as the operator uses it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from footplate_contracts.names import API_VERSION, Phase, Reason, RunUid
from footplate_contracts.v1alpha1.status import GatheringStatus, TrainingRunStatus
from footplate_contracts.v1alpha1.trainingrun import TrainingRunSpec
from footplate_operator.runtime.clock import parse_time
from footplate_operator.runtime.kinds import Kind
from footplate_operator.runtime.objects import Child, KubernetesObject

TRAINING_RUN: Final = Kind(API_VERSION, "TrainingRun", "trainingruns")
WITHOUT_PODS: Final = frozenset({None, Phase.QUEUED, Phase.SUSPENDED})  # unless the run gathers


@dataclass(frozen=True)
class Run(KubernetesObject[TrainingRunSpec, TrainingRunStatus]):
    """Decoded TrainingRun, with the operator's own facts about it."""

    uid: RunUid
    # What does not count of its phase: nobody led then, or the last leader's clock was another.
    unobserved: timedelta = timedelta(0)
    kept_steps: frozenset[int] = frozenset()  # whose checkpoints stay for other runs; not in the object

    @property
    def phase(self) -> Phase | None:
        """Phase that was written last."""
        return self.status.phase

    @property
    def gathers(self) -> bool:
        """True while it has its turn and some of its workers have no node."""
        waits = self.status.gathering
        starts = self.phase in (Phase.QUEUED, Phase.STARTING)
        return starts and waits is not None and waits.turn_time is not None

    @property
    def has_gang(self) -> bool:
        """True if it may have pods, so that it is not admitted anew."""
        return self.phase not in WITHOUT_PODS or self.gathers

    @property
    def phase_since(self) -> datetime:
        """Start of the phase, later by the time that does not count."""
        return self._phase_time + self.unobserved

    @property
    def _phase_time(self) -> datetime:
        return (
            parse_time(self.status.last_transition_time) if self.status.last_transition_time else self.created
        )

    @property
    def last_status_time(self) -> datetime | None:
        """Latest time in its status, by the writer's clock; None for none."""
        status = self.status
        times = [status.last_transition_time, status.progress.last_updated_time if status.progress else None]
        times += [attempt.end or attempt.start for attempt in status.attempts[-1:]]
        times += [condition.last_transition_time for condition in status.conditions]
        return max((parse_time(time) for time in times if time), default=None)

    @property
    def reference(self) -> Child:
        """Reference to the run itself, for its deletion."""
        return Child(kind=TRAINING_RUN, name=self.name, uid=self.uid, namespace=self.namespace)

    @property
    def ended(self) -> datetime | None:
        """Time at which it came to a terminal phase; None while it may still train."""
        if self.phase is None or not self.phase.is_terminal:
            return None
        time = self.status.completion_time
        return parse_time(time) if time else self._phase_time


def get_gathering(status: TrainingRunStatus) -> GatheringStatus | None:
    """Return the wait for nodes in `status`; an earlier release wrote it as an attempt alone."""
    last = status.attempts[-1] if status.attempts else None
    if status.gathering is not None or status.phase is not Phase.QUEUED or last is None:
        return status.gathering
    if last.reason != Reason.GANG_INCOMPLETE:
        return None
    return GatheringStatus(since=last.start, released_time=last.end, lost_turns=1)


def phase_of(body: Mapping[str, Any]) -> Phase:
    """Return the phase of an object, decoded or not; a phase unknown to this release counts as Queued."""
    try:
        return Phase(body.get("status", {}).get("phase") or Phase.QUEUED)
    except ValueError:
        return Phase.QUEUED


def gathers(body: Mapping[str, Any]) -> bool:
    """Return whether the run in `body` has its turn; see `Run.gathers`."""
    waits = body.get("status", {}).get("gathering") or {}
    return phase_of(body) in (Phase.QUEUED, Phase.STARTING) and bool(waits.get("turnTime"))


def has_gang(body: Mapping[str, Any]) -> bool:
    """Return whether the run in `body` may have pods; see `Run.has_gang`."""
    return phase_of(body) not in WITHOUT_PODS or gathers(body)


def decode(body: Mapping[str, Any], before: tuple[Mapping[str, Any], Run] | None = None) -> Run:
    """Decode the run in `body`; raise Undecodable. `before`: the body read last, and its run."""
    return Run.read(body, TrainingRunSpec, TrainingRunStatus, before)
