"""What the operator remembers of a run beside its status: nothing that may not be forgotten.

Children other than pods change so rarely that watching them would cost more
than it tells: they are listed once, and again now and then.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from pydantic import ValidationError

from footplate_contracts.logs import fields
from footplate_contracts.names import Reason, secret_name
from footplate_operator.errors import ClusterError
from footplate_operator.runtime.cache import Cache
from footplate_operator.runtime.cluster import Cluster
from footplate_operator.runtime.kinds import CORE_EVENT, POD, QUIET_CHILDREN, REVISION, SECRET, Json, Kind
from footplate_operator.trainingrun.labels import selector
from footplate_operator.trainingrun.manifests.children import Credentials, read_secret
from footplate_operator.trainingrun.observed import Child, PodView, view_child
from footplate_operator.trainingrun.policies.diagnosis import diagnose
from footplate_operator.trainingrun.revision import Revision, view_revision
from footplate_operator.trainingrun.run import Run

MOUNT_SECONDS: Final = 4.0  # a pod that waits longer than this is asked about
_log = logging.getLogger(__name__)


@dataclass
class Memory:
    """Of one run; `uid` tells a run from another of the same name."""

    uid: str
    listed: datetime | None = None
    wrote: datetime | None = None
    children: dict[tuple[Kind, str], Child] = field(default_factory=dict)
    revisions: list[Revision] = field(default_factory=list)
    credentials: Credentials | None = None
    mounts: dict[str, tuple[datetime, str]] = field(default_factory=dict)  # pod uid -> asked, told
    held: dict[str, tuple[datetime, Reason]] = field(default_factory=dict)  # pod uid -> since, by what

    def remember(self, kind: Kind, body: Json) -> None:
        """A child exists."""
        child = view_child(kind, body)
        self.children[kind, child.name] = child
        if kind == REVISION:
            self._remember_revision(body)
        if kind == SECRET:
            self._remember_secret(body)

    def held_since(self, pod: PodView, now: datetime) -> datetime | None:
        """Since when `pod` waits for what it waits for; None for one that is merely on its way."""
        found = diagnose(pod)
        if found is None:
            self.held.pop(pod.uid, None)
            return None
        known = self.held.get(pod.uid)
        if known is None or known[1] is not found.reason:
            known = self.held[pod.uid] = (now, found.reason)
        return known[0]

    def drop(self, child: Child) -> None:
        """A child is gone."""
        self.children.pop((child.kind, child.name), None)

    def _remember_revision(self, body: Json) -> None:
        try:
            revision = view_revision(body)
        except (ValidationError, KeyError) as error:
            _log.warning("unreadable revision", extra=fields(name=body["metadata"]["name"], error=error))
            return
        self.revisions = [known for known in self.revisions if known.number != revision.number]
        self.revisions.append(revision)

    def _remember_secret(self, body: Json) -> None:
        try:
            self.credentials = read_secret(body)
        except (KeyError, ValueError) as error:
            _log.warning("unreadable secret", extra=fields(name=body["metadata"]["name"], error=error))


async def refresh(memory: Memory, run: Run, cluster: Cluster, cache: Cache, now: datetime) -> None:
    """List everything that belongs to `run`; raises ClusterError."""
    labels = selector(run.uid)
    cache.set_pods(run.namespace, run.uid, await cluster.find(POD, run.namespace, labels))
    memory.children.clear()
    memory.revisions.clear()
    for kind in QUIET_CHILDREN:
        for body in await cluster.find(kind, run.namespace, labels):
            if kind != SECRET or body["metadata"]["name"] == secret_name(run.name):
                memory.remember(kind, body)
    memory.listed = now


async def mount_error(memory: Memory, run: Run, pod: PodView, cluster: Cluster, now: datetime) -> str:
    """Why the volumes of `pod` cannot be mounted; a pod says that in Events only."""
    on_its_way = pod.live and bool(pod.node) and not pod.started
    if not on_its_way or now - pod.created < timedelta(seconds=MOUNT_SECONDS):
        return ""
    asked = memory.mounts.get(pod.uid)
    if asked is not None and now - asked[0] < timedelta(seconds=MOUNT_SECONDS):
        return asked[1]
    try:
        found = await cluster.find(
            CORE_EVENT, run.namespace, fields=f"involvedObject.uid={pod.uid},reason=FailedMount"
        )
    except ClusterError as error:
        level = logging.WARNING if asked is None else logging.DEBUG  # once a pod is enough
        _log.log(level, "events not read", extra=fields(pod=pod.name, error=error))
        found = []
    newest = max(found, key=lambda event: str(event.get("lastTimestamp") or ""), default=None)
    told = str(newest.get("message", ""))[:900] if newest else ""
    memory.mounts[pod.uid] = (now, told)
    return told
