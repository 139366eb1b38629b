"""One manifest of a worker or a spare."""

from __future__ import annotations

from typing import Any

from footplate_contracts.names import Role, WorkerId
from footplate_operator.runtime.kinds import Json
from footplate_operator.trainingrun.manifests import worker
from footplate_operator.trainingrun.revision import Revision
from footplate_operator.trainingrun.run import Run


def worker_pod(run: Run, revision: Revision, slot: WorkerId, *more: Any, **named: Any) -> Json:
    """The manifest of one worker."""
    (made,) = worker.pods(run, revision, Role.WORKER, [slot], *more, **named)
    return made


def spare_pod(run: Run, revision: Revision, slot: WorkerId, *more: Any, **named: Any) -> Json:
    """The manifest of one spare."""
    (made,) = worker.pods(run, revision, Role.SPARE, [slot], *more, **named)
    return made
