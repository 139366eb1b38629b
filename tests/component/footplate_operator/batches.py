"""A kind of the tests' own: a Batch has Jobs, whose pods have a bill. As a program, an operator of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from footplate_contracts.base import Contract
from footplate_contracts.names import MANAGED_BY, MANAGED_BY_LABEL, PROFILE_LABEL, ROLE_LABEL, Role
from footplate_contracts.v1alpha1.status import Condition
from footplate_operator.__main__ import KINDS
from footplate_operator.__main__ import main as operator
from footplate_operator.runtime.controller import Controller, OwnedKind
from footplate_operator.runtime.decision import Create, Decision, ReconcileProblem
from footplate_operator.runtime.kinds import JOB, POD, Json, Kind
from footplate_operator.runtime.objects import Child, KubernetesObject, child_metadata
from footplate_operator.services import Services
from footplate_operator.usage.hooks import UsageHooks, list_observations
from footplate_operator.usage.recorder import owner_of

BATCH = Kind("example.dev/v1", "Batch", "batches")
UID_LABEL = "example.dev/batch-uid"


class BatchSpec(Contract):
    jobs: int
    profile: str


class BatchStatus(Contract):
    recorded: int = 0
    conditions: list[Condition] = []


Batch = KubernetesObject[BatchSpec, BatchStatus]


@dataclass(frozen=True)
class BatchView:
    jobs: Sequence[Child]
    recorded: int  # pods with a usage record


class Batches(Controller[Batch, BatchView, Decision[BatchStatus]]):
    kind = BATCH
    noun = "batch"
    uid_label = UID_LABEL
    owns = (OwnedKind(JOB, watched=True), OwnedKind(POD, watched=True, lingers=True))

    def __init__(self, services: Services) -> None:
        self._usage = services.usage
        self.hooks = UsageHooks(services.usage, BATCH)

    def decode(self, body: Json) -> Batch:
        return Batch.read(body, BatchSpec, BatchStatus)

    async def observe(
        self, batch: Batch, children: Sequence[Child], now: datetime, predecessors: Sequence[Child] = ()
    ) -> BatchView:
        usage = await self._usage.record(owner_of(BATCH, batch), list_observations(children))
        jobs = [child for child in children if child.kind == JOB]
        return BatchView(jobs, 0 if usage is None else len(usage.pods))

    def desire(
        self, batch: Batch, view: BatchView, problem: ReconcileProblem | None, now: datetime
    ) -> Decision[BatchStatus]:
        names = {f"{batch.name}-{number}" for number in range(batch.spec.jobs)}
        missing = sorted(names - {job.name for job in view.jobs})
        creations = tuple(Create(_job(batch, name)) for name in missing)
        return Decision(status=BatchStatus(recorded=view.recorded), changes=(creations,))

    def forget(self, uid: str) -> None:
        self._usage.tracker.forget(uid)


def _job(batch: Batch, name: str) -> Json:
    labels = {MANAGED_BY_LABEL: MANAGED_BY, UID_LABEL: batch.uid}
    pod_labels = {**labels, ROLE_LABEL: Role.WORKER, PROFILE_LABEL: batch.spec.profile}
    container = {"name": "work", "image": "work:1", "resources": {"requests": {"cpu": "2"}}}
    pod = {"restartPolicy": "Never", "automountServiceAccountToken": False, "containers": [container]}
    template = {"metadata": {"labels": pod_labels}, "spec": pod}
    metadata = child_metadata(BATCH, batch, name, {UID_LABEL: batch.uid})
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": {"template": template}}


@asynccontextmanager
async def batches(services: Services, _: Any) -> AsyncIterator[Batches]:
    yield Batches(services)


def main() -> int:
    return operator({**KINDS, Batches: batches})
