"""Per-run memory of the operator beside the status; the operator may lose all of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from footplate_contracts.coordinator_state import CoordinatorState
from footplate_contracts.logs import log_fields
from footplate_contracts.v1alpha1.pods import Trainer
from footplate_contracts.v1alpha1.status import TimeStatus
from footplate_ledger.account import Tariff
from footplate_ledger.cost_cache import RunCostCache
from footplate_operator.errors import ClusterError
from footplate_operator.keys.credentials import RunCredentials
from footplate_operator.runtime.cluster import Cluster
from footplate_operator.runtime.decision import ReconcileProblem
from footplate_operator.runtime.kinds import CORE_EVENT, Json, Kind
from footplate_operator.runtime.objects import Child
from footplate_operator.trainingrun.avoidance import NodeAvoidance
from footplate_operator.trainingrun.desired.budget_check import BudgetCheck, check_budget, get_assessment
from footplate_operator.trainingrun.drift import OFTEN, DesiredChild, content_digest
from footplate_operator.trainingrun.observation import BudgetAssessment, PodView
from footplate_operator.trainingrun.policies.diagnosis import diagnose, misses_secret
from footplate_operator.trainingrun.recovery import Recovery
from footplate_operator.trainingrun.revision import Revision, RevisionData
from footplate_operator.trainingrun.run import Run
from footplate_operator.trainingrun.sanitized_state import sanitize_state
from footplate_operator.trainingrun.scale_ups import ScaleUps
from footplate_operator.usage.owner_usage import OwnerUsage

MOUNT_SECONDS: Final = 4.0  # a pod that waits longer than this is asked about
_log = logging.getLogger(__name__)


SECRET_ANEW: Final = timedelta(minutes=1)  # between two times that a Secret is made for a pod that misses it
INSISTED: Final = timedelta(minutes=10)  # in which a child is made anew a few times and no more
INCOMPLETE: Final = timedelta(hours=1)  # for which a domain without room for the whole gang comes last


@dataclass(frozen=True)
class FirstObservation:
    """First observation of a run by this leader."""

    phase_start: str | None
    told_until: datetime | None
    before: float  # seconds of that phase that did not count already
    unobserved: timedelta | None = None  # all that does not count of it


@dataclass
class RunCache:
    """Memory of one run."""

    read: tuple[Json, Run] | None = None  # the object as it was looked at last, and the run that it is
    credentials: tuple[str | None, RunCredentials] | None = None  # and of which key they are
    avoidance: NodeAvoidance = field(default_factory=NodeAvoidance)
    gathering_in: str = ""  # topology domain of a packed gang some of whose workers have no node
    incomplete_in: dict[str, datetime] = field(default_factory=dict)  # domains that such gangs left -> when
    # Pod uid, reason of an Event -> asked, told.
    mounts: dict[tuple[str, str], tuple[datetime, str]] = field(default_factory=dict)
    recovery: Recovery | None = None
    found: FirstObservation | None = None
    # As its pods were made, whatever becomes of its ControllerRevision.
    revision: Revision | None = None
    tried: tuple[RevisionData, Trainer] | None = None  # of which the API server would create a worker
    as_made: dict[tuple[Kind, str], tuple[str, int]] = field(default_factory=dict)  # child -> uid, version
    anew: dict[tuple[Kind, str], dict[str, datetime]] = field(default_factory=dict)  # child -> uids edited
    noted: dict[tuple[str, str], tuple[datetime, str]] = field(
        default_factory=dict
    )  # pod uid, what -> since, value

    scale_ups: ScaleUps = field(default_factory=ScaleUps)

    # What its coordinator said last, and what of it counts.
    said: tuple[CoordinatorState, CoordinatorState] | None = None
    passed_over: set[str] = field(default_factory=set)  # fields of its words

    usage: OwnerUsage | None = None  # None: not known
    secret_made: datetime | None = None  # anew, as a pod missed it
    accounts: RunCostCache = field(default_factory=RunCostCache)  # of what is over
    judgement: BudgetCheck | None = None  # of its budget, as it was found last
    # What was compared with its profile last, and what came of it.
    profile: tuple[tuple[object, ...], ReconcileProblem | list[str]] | None = None
    # When `status.cost` was counted, and `status.wallSeconds` as it was then.
    counted: tuple[str | None, TimeStatus | None] | None = None

    def get_sanitized_state(self, said: CoordinatorState) -> CoordinatorState:
        """Return the sanitized form of its coordinator's report `said`; log each dropped field once."""
        if self.said is None or self.said[0] is not said:
            found = sanitize_state(said)
            self.said = said, found.state
            if new := sorted(set(found.passed_over) - self.passed_over):
                self.passed_over.update(new)
                about = log_fields(epoch=said.epoch, fields=", ".join(new))
                _log.warning("ignoring values of a coordinator that no status can hold", extra=about)
        return self.said[1]

    def counted_since(self, run: Run) -> TimeStatus | None:
        """Return `status.wallSeconds` as it was when `status.cost` was counted last; None if it never was."""
        until = run.status.cost.until if run.status.cost is not None else None
        if self.counted is None or self.counted[0] != until:
            self.counted = (until, run.status.wall_seconds)
        return None if until is None else self.counted[1]

    def assess_budget(
        self, run: Run, used: OwnerUsage | None, tariff: Tariff | None, now: datetime
    ) -> BudgetAssessment | None:
        """Return what `run` has spent of its budget; None without a budget."""
        self.judgement = check_budget(run, used, tariff, now, self.judgement, self.accounts)
        return get_assessment(run, self.judgement, now, known=None not in (used, tariff))

    def compared(
        self, these: tuple[object, ...], compare: Callable[[], ReconcileProblem | list[str]]
    ) -> ReconcileProblem | list[str]:
        """Return the cached result of `compare` for `these`: spec, profile and frozen data, all immutable."""
        known = self.profile
        if known is None or any(this is not that for this, that in zip(these, known[0], strict=True)):
            known = self.profile = these, compare()
        return known[1]

    def note_first_observation(self, run: Run) -> None:
        """Note this leader's first observation of the run, before it writes anything."""
        if self.found is None:
            status = run.status
            self.found = FirstObservation(
                status.last_transition_time, run.last_status_time, status.internal.phase_unobserved_seconds
            )

    def unobserved_of(self, run: Run, now: datetime) -> timedelta:
        """Return the part of its phase that does not count: from the status's last time to this leader's.

        The previous leader may have had another clock, and the run's events since are still to come.
        """
        found = self.found
        if found is None or run.status.last_transition_time != found.phase_start:
            return timedelta(0)
        if found.unobserved is None:
            passed = now - found.told_until if found.told_until else timedelta(0)
            found = self.found = replace(found, unobserved=timedelta(seconds=found.before) + passed)
        assert found.unobserved is not None
        return found.unobserved

    async def complete(self, pod: PodView, cluster: Cluster, now: datetime) -> PodView:
        """Return `pod` with the mount error from its Events, and the times since which its states hold.

        Times that a kubelet writes are by its own clock; these are by ours.
        """
        seen = await self._told(pod, cluster, now)
        found = diagnose(seen)
        return replace(
            seen,
            held_since=self._since(pod, "held", found.reason if found else "", now),
            unready_since=self._since(pod, "ready", "no" if pod.started and not pod.ready else "", now),
            bound_since=self._since(pod, "bound", pod.node, now),
            ran_since=self._since(pod, "ran", "yes" if pod.started else "", now),
            seen_since=self._since(pod, "seen", "yes", now),
            ended_since=self._since(pod, "ended", "yes" if pod.ended else "", now),
        )

    def noticed(self, pod: PodView, now: datetime) -> PodView:
        """Return `pod`, whose Node was read, with avoided nodes and the time since which it should leave."""
        pod = self.avoidance.explained(pod)
        since = self._since(pod, "notice", "yes" if pod.notice else "", now)
        return replace(pod, noticed_since=since) if since else pod

    def note_domain(self, domain: str, complete: bool, now: datetime) -> None:
        """Note the topology domain of the run's gang; empty: it has none."""
        if not domain and self.gathering_in:
            self.incomplete_in[self.gathering_in] = now
        self.gathering_in = "" if complete else domain

    def failed_domains(self, now: datetime) -> frozenset[str]:
        """Return the domains in which the run's gang was incomplete of late."""
        return frozenset(name for name, since in self.incomplete_in.items() if now - since < INCOMPLETE)

    def find_drift(
        self, children: Iterable[Child], wanted: Iterable[DesiredChild], now: datetime
    ) -> tuple[list[tuple[Child, Json]], Child | None]:
        """Return manually changed children with their manifests, and a child that changes again and again."""
        there = {(child.kind, child.name): child for child in children if not child.terminating}
        found: list[tuple[Child, Json]] = []
        insisted = None
        for want in wanted:
            key = (want.kind, want.name)
            child = there.get(key)
            if child is None or self.as_made.get(key) == (child.uid, child.version):
                continue
            manifest = want.build()
            if content_digest(want.kind, manifest) == child.essence:
                self.as_made[key] = (child.uid, child.version)
                continue
            known = {uid: seen for uid, seen in self.anew.get(key, {}).items() if now - seen < INSISTED}
            self.anew[key] = {child.uid: now, **known}
            if len(self.anew[key]) > OFTEN:
                insisted = child
            else:
                found.append((child, manifest))
        return found, insisted

    def retain_pods(self, pods: Iterable[PodView]) -> None:
        """Forget all pods but these."""
        uids = {pod.uid for pod in pods}
        self.mounts = {key: asked for key, asked in self.mounts.items() if key[0] in uids}
        self.noted = {key: seen for key, seen in self.noted.items() if key[0] in uids}

    async def _told(self, pod: PodView, cluster: Cluster, now: datetime) -> PodView:
        """Return `pod` with the errors that only Events hold: a failed mount, or a failed device claim."""
        if pod.live and pod.node and not pod.started:
            return replace(pod, mount_error=await self._event(pod, "FailedMount", cluster, now))
        if pod.live and not pod.node and pod.has_claims:
            told = await self._event(pod, "FailedResourceClaimCreation", cluster, now)
            return replace(pod, claim_error=told)
        return pod

    async def _event(self, pod: PodView, reason: str, cluster: Cluster, now: datetime) -> str:
        """Return the message of its newest Event of this reason, once it has waited for MOUNT_SECONDS."""
        since = self._since(pod, "on its way", reason, now)
        if since is None or now - since < timedelta(seconds=MOUNT_SECONDS):
            return ""
        asked = self.mounts.get((pod.uid, reason))
        if asked is not None and now - asked[0] < timedelta(seconds=MOUNT_SECONDS):
            return asked[1]
        selector = f"involvedObject.uid={pod.uid},reason={reason}"
        try:
            found = await cluster.find(CORE_EVENT, pod.namespace, fields=selector)
        except ClusterError as error:
            level = logging.WARNING if asked is None else logging.DEBUG  # once a pod is enough
            _log.log(level, "events not read", extra=log_fields(pod=pod.name, error=error))
            found = []
        newest = max(found, key=lambda event: str(event.get("lastTimestamp") or ""), default=None)
        told = str(newest.get("message", ""))[:900] if newest else ""
        self.mounts[pod.uid, reason] = (now, told)
        return told

    def misses_secret(self, run: Run, pods: Iterable[PodView], now: datetime) -> bool:
        """Return whether to create the run's Secret anew, at most once a minute: the Event outlasts it."""
        if not any(misses_secret(run.name, pod) for pod in pods):
            return False
        if self.secret_made is not None and now - self.secret_made < SECRET_ANEW:
            return False
        self.secret_made = now
        return True

    def _since(self, pod: PodView, what: str, value: str, now: datetime) -> datetime | None:
        """Return since when `what` of `pod` has had this `value`; None if `value` is empty."""
        key = (pod.uid, what)
        if not value:
            self.noted.pop(key, None)
            return None
        known = self.noted.get(key)
        if known is None or known[1] != value:
            known = self.noted[key] = (now, value)
        return known[0]
