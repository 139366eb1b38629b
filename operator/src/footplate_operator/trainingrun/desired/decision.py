"""Type of a decision about a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from footplate_contracts.directives import Directives
from footplate_contracts.v1alpha1.status import TrainingRunStatus
from footplate_operator.runtime.decision import Decision
from footplate_operator.trainingrun.observation import PodView

POLL_SECONDS: Final = 2.0  # how often to look again while something is about to happen that no watch tells


@dataclass(frozen=True, kw_only=True)
class RunDecision(Decision[TrainingRunStatus]):
    """Decision about one run, with the directives for its coordinator and the query to the API."""

    coordinator: PodView | None = None  # to listen to
    directives: Directives | None = None  # for a coordinator that was told others
    ask_api: bool = False  # whether it has the final status


def soonest(*waits: float | None) -> float | None:
    """Return the shortest of the waits that are not None; None if all are."""
    known = [wait for wait in waits if wait is not None]
    return min(known) if known else None
