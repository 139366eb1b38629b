"""Controller of TrainingRuns: the kinds that it watches, and the observation and decision for each run.

The package `desired` decides, in a pure function. This module supplies the observations that it needs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from footplate_contracts.coordinator_state import CoordinatorState
from footplate_contracts.logs import log_fields
from footplate_contracts.names import RUN_UID_LABEL, ConditionType, Phase, Role, RunUid
from footplate_contracts.v1alpha1.computeprofile import Scheduling
from footplate_contracts.v1alpha1.status import TrainingRunStatus
from footplate_operator.profiles import PROFILE
from footplate_operator.runtime.conditions import find
from footplate_operator.runtime.controller import Controller, OwnedKind
from footplate_operator.runtime.decision import ReconcileProblem
from footplate_operator.runtime.events import ObjectEvent
from footplate_operator.runtime.kinds import (
    CONFIG_MAP,
    CORE_EVENT,
    DISRUPTION_BUDGET,
    NETWORK_POLICY,
    NODE,
    POD,
    PRIORITY_CLASS,
    REVISION,
    SECRET,
    SERVICE,
    Json,
    Kind,
)
from footplate_operator.runtime.objects import Child, Key
from footplate_operator.services import Services
from footplate_operator.tariff.tariffs import KINDS as TARIFF_KINDS
from footplate_operator.trainingrun.admission import Admission
from footplate_operator.trainingrun.coordinator_client import CoordinatorEndpoint, CoordinatorMonitor
from footplate_operator.trainingrun.coordinator_silence import SilenceDetector
from footplate_operator.trainingrun.desired.decision import RunDecision
from footplate_operator.trainingrun.desired.run import decide
from footplate_operator.trainingrun.events import budget_event, held_up_event, not_avoided_events, phase_event
from footplate_operator.trainingrun.gang_queues import GangQueues
from footplate_operator.trainingrun.history_client import FinalStatus, RecordingTracker
from footplate_operator.trainingrun.hooks import TrainingRunHooks
from footplate_operator.trainingrun.manifests.children import list_desired_children as children_of
from footplate_operator.trainingrun.metadata import coordinator_host
from footplate_operator.trainingrun.metrics import RunMetrics
from footplate_operator.trainingrun.node import has_new_capacity
from footplate_operator.trainingrun.node_cache import NodeCache
from footplate_operator.trainingrun.observation import ApiEndpoint, Observed, PodView, live_nodes
from footplate_operator.trainingrun.packing import GangPacking
from footplate_operator.trainingrun.policies import checkpoint_pins, deletion
from footplate_operator.trainingrun.policies.suspension import find_suspension
from footplate_operator.trainingrun.recovery import track_recovery
from footplate_operator.trainingrun.reference_index import ReferenceIndex
from footplate_operator.trainingrun.revision import Defaults, Revision
from footplate_operator.trainingrun.run import TRAINING_RUN, Run, decode, phase_of
from footplate_operator.trainingrun.run_cache import RunCache
from footplate_operator.trainingrun.run_usage import RunUsage
from footplate_operator.trainingrun.status.report import AT_REST
from footplate_operator.trainingrun.views import RevisionView, RunView

DELETED_GRACE: Final = 2  # seconds: nobody wants a checkpoint of a run that was deleted
_log = logging.getLogger(__name__)


class TrainingRunController(Controller[Run, RunView, RunDecision]):
    """Controller of TrainingRuns; `release` is the version of this operator's build."""

    kind = TRAINING_RUN
    noun = "run"
    uid_label = RUN_UID_LABEL
    # What holds a GPU goes first. The others hardly change: a watch of them tells that somebody edits one.
    owns = (
        OwnedKind(POD, watched=True, patched=True, lingers=True, purge_grace=DELETED_GRACE),
        OwnedKind(SECRET, unread=True),
        OwnedKind(CONFIG_MAP, watched=True),
        OwnedKind(SERVICE, watched=True),
        OwnedKind(DISRUPTION_BUDGET, watched=True),
        OwnedKind(NETWORK_POLICY, watched=True),
        OwnedKind(REVISION, watched=True),
    )
    parameters = (PROFILE,)
    hints = (NODE, PRIORITY_CLASS, *TARIFF_KINDS)
    patient = TARIFF_KINDS
    lists = (CORE_EVENT,)  # the kubelet names the volume that it cannot mount in an event only
    expires = True

    def __init__(
        self,
        services: Services,
        coordinators: CoordinatorMonitor,
        histories: RecordingTracker,
        defaults: Defaults,
        metrics: RunMetrics,
        release: str,
    ) -> None:
        cluster, now = services.cluster, services.clock
        self._usage = services.usage
        self._tariffs = services.usage.tariffs
        self._histories = histories
        self._api = services.api
        self._cluster = cluster
        self._profiles = services.usage.profiles
        self._nodes = NodeCache(cluster)
        self._coordinators = coordinators
        self._silence = SilenceDetector(cluster, coordinators)
        self._chains = ReferenceIndex(cluster, now)
        self._admission = Admission(
            cluster, self._profiles, self._nodes, self._chains, defaults, services.credentials, release
        )
        self._metrics = metrics
        self._release = release
        self._now = now
        self._home = services.scope.home
        self._used = RunUsage(services.usage)
        self._turns = GangQueues()
        self._caches: dict[str, RunCache] = {}  # by uid of the run
        self.hooks = TrainingRunHooks(services, self._caches, metrics)

    def decode(self, body: Json) -> Run:
        cache = self._caches.get(body["metadata"]["uid"])
        run = decode(body, None if cache is None else cache.read)
        cache = self._caches.setdefault(run.uid, RunCache())
        # The text of one that ended is kept packed; it is looked at once more, when it goes.
        cache.read = None if self.has_ended(body) else (body, run)
        cache.note_first_observation(run)
        return run

    async def observe(
        self, run: Run, children: Sequence[Child], now: datetime, predecessors: Sequence[Child] = ()
    ) -> RunView:
        tariff = await self._tariffs.get_tariff()
        cache = self._caches.setdefault(run.uid, RunCache())
        pods = [
            await cache.complete(child, self._cluster, now)
            for child in children
            if isinstance(child, PodView)
        ]
        others = [child for child in children if not isinstance(child, PodView)]
        revisions = [child.revision for child in others if isinstance(child, RevisionView)]
        cache.retain_pods(pods)
        cache.recovery, recovered = track_recovery(cache.recovery, run.status, self._said(run, cache), now)
        if recovered is not None:
            self._metrics.count_recovery(recovered)
        used = await self._used.note(run, cache, pods, revisions, self._said(run, cache).energy, now)
        spending = cache.assess_budget(run, used, tariff, now)
        suspends = find_suspension(run, spending) is not None
        admitted = await self._admission.admitted(run, cache, revisions, suspends)
        state = self._said(run, cache)
        self._nodes.track_pods(run.key, run.uid, pods)
        frozen = admitted if isinstance(admitted, Revision) else None
        scheduling = frozen.frozen.profile.scheduling if frozen else Scheduling()
        await self._nodes.refresh(_doubtful(pods, state, self._nodes.list_disruptions(scheduling)), now)
        ending = self._nodes.list_disruptions(scheduling)
        credentials = self._admission.credentials(run, cache, admitted, pods)
        recorded = None if run.ended is None else self._histories.get_status(FinalStatus.of(run))
        naming = await self._chains.find_referencing_runs(run)
        wanted = children_of(run, frozen) if frozen and credentials else ()
        edited, insisted = cache.find_drift(others, wanted, now)
        observed = Observed(
            avoided=cache.avoidance.update(run.status, pods, state, now),
            pods=tuple(cache.noticed(self._nodes.complete(pod, ending), now) for pod in pods),
            ending=self._nodes.filter_schedulable(ending, scheduling),
            children=tuple(others),
            predecessors=tuple(pod for pod in predecessors if isinstance(pod, PodView)),
            coordinator=state,
            silence=await self._silence.find(run.uid, pods, now),
            packing=self._packing(run, cache, scheduling, pods, now),
            problem=admitted if isinstance(admitted, ReconcileProblem) else None,
            edited=edited,
            insisted=insisted,
            profiles=self._profiles.names(),
            profile=await self._admission.profile_since(run, cache, admitted),
            credentials=credentials,
            home=self._home,
            secret_missed=cache.misses_secret(run, pods, now),
            api=ApiEndpoint(self._api.url, self._api.bundle()),
            recorded=recorded,
            followers=checkpoint_pins.build_followers(run, naming),
            awaited=await self._chains.is_awaited(run, naming, deletion.due_since(run, pods, recorded, now)),
            usage=used,
            tariff=tariff,
            spending=spending,
            turn=self._turns.find(run, None if credentials is None else admitted, pods, suspends, now),
            scaled_up=await cache.scale_ups.find(run.namespace, pods, self._cluster, now),
        )
        revision = None if isinstance(admitted, ReconcileProblem) else admitted
        return RunView(observed, revision, cache.unobserved_of(run, now))

    def _packing(
        self, run: Run, cache: RunCache, scheduling: Scheduling, pods: Sequence[PodView], now: datetime
    ) -> GangPacking | None:
        """Return the topology domains of the run's pods, and note that of its workers."""
        nodes = run.spec.compute.nodes
        placed = scheduling.with_placement(run.spec.compute.placement)
        packing = self._nodes.packing(placed, nodes, pods, cache.failed_domains(now))
        if packing is not None:
            workers = [pod for pod in pods if pod.role == Role.WORKER]
            complete = sum(pod.live and bool(pod.node) for pod in workers) >= nodes
            cache.note_domain(packing.find_domain(live_nodes(workers)), complete, now)
        return packing

    def desire(self, run: Run, view: RunView, problem: ReconcileProblem | None, now: datetime) -> RunDecision:
        observed = view.observed
        if problem is not None:
            told = observed.problem if problem.passing else problem
            observed = replace(observed, problem=told, hindered=True)
        kept = frozenset(step for follower in observed.followers for step in follower.steps)
        run = replace(run, unobserved=view.unobserved, kept_steps=kept)
        desired = decide(run, view.revision, observed, now)
        has_workers = any(not pod.ended for pod in observed.workers)
        wanted, state = observed.followers, observed.coordinator
        followers = checkpoint_pins.select_followers(run, wanted, state, has_workers=has_workers)
        said = {"written_by": self._release, "followers": followers or None}
        status = desired.status.model_copy(update=said)
        if status.phase in AT_REST:  # nothing else would be a reason to write the last of it
            status = self.hooks.complete(run, status)
        self._turns.note_decision(run, status)
        events = (*desired.told, *not_avoided_events(observed.avoided.dropped))
        return replace(desired, status=status, told=events)

    # -- what an undecoded object says ---------------------------------------------------

    def index(self, body: Json) -> Mapping[str, str]:
        profile = body.get("spec", {}).get("compute", {}).get("profile", "")
        phase = phase_of(body)
        return {"phase": phase, "profile": str(profile), "live": str(not phase.is_terminal)}

    def has_ended(self, body: Json) -> bool:
        return phase_of(body).is_terminal

    # -- what follows --------------------------------------------------------------------

    def send_decision(self, run: Run, desired: RunDecision) -> None:
        self._listen(run, desired)
        self._coordinators.send_directives(run.uid, desired.directives)
        if desired.ask_api:
            self._histories.start_polling(FinalStatus.of(run))
        else:
            self._histories.stop_polling(run.uid)

    def build_events(self, run: Run, after: TrainingRunStatus) -> Iterable[ObjectEvent]:
        self._metrics.count_restarts(run.status.failures, after.failures)
        self._metrics.count_time(run.status.wall_seconds, after.wall_seconds)
        if after.phase is not run.phase:
            _log.info("phase", extra=log_fields(before=run.phase, after=after.phase, why=_why(after)))
        told = (phase_event(run, after), held_up_event(run, after), budget_event(run, after))
        return [event for event in told if event is not None]

    def parameter_changed(
        self, kind: Kind, body: Json, gone: bool, where: Callable[[Mapping[str, str]], Iterable[Key]]
    ) -> Iterable[Key]:
        name = body["metadata"]["name"]
        since = self._usage.observe_parameter(self.kind, kind, body, gone)
        if kind == NODE:
            if gone:
                return self._nodes.drop(body)
            before, concerned = self._nodes.get(name), self._nodes.put(body)
            waiting = (
                self._turns.note_new_node(self._now())
                if has_new_capacity(before, self._nodes.get(name))
                else ()
            )
            return [*concerned, *waiting]
        if kind == PRIORITY_CLASS:
            self._turns.put_priority(body, gone)
            return ()
        if kind in TARIFF_KINDS:
            return () if since is None else self._used.recount(since, where({}))
        return where({"profile": name, "live": str(True)})

    def neighbours(self, body: Json, gone: bool) -> Iterable[Key]:
        return [*self._chains.observe_run(body, gone), *self._turns.observe_run(body, gone, self._now())]

    def forget(self, uid: str) -> None:
        self._coordinators.forget(RunUid(uid))
        self._histories.forget(RunUid(uid))
        self._caches.pop(uid, None)
        self._nodes.forget(uid)
        self._usage.tracker.forget(uid)

    # -- particulars ---------------------------------------------------------------------

    def _said(self, run: Run, cache: RunCache) -> CoordinatorState:
        return cache.get_sanitized_state(self._coordinators.state(run.uid))

    def _listen(self, run: Run, desired: RunDecision) -> None:
        """Poll the coordinator that serves, and stop polling if the run has ended or is suspended."""
        pod, known = desired.coordinator, self._caches[run.uid].credentials
        if pod is None or not pod.address:
            if run.ended is not None:
                self._coordinators.forget(run.uid)
            elif run.phase is Phase.SUSPENDED:
                self._coordinators.unfollow(run.uid)  # nobody answers there until the run is resumed
        elif known is not None:
            _, credentials = known
            endpoint = CoordinatorEndpoint(
                pod_uid=pod.uid,
                epoch=pod.epoch,
                address=pod.address,
                host=coordinator_host(run),
                token=credentials.token,
                certificate=credentials.certificate.decode(),
            )
            self._coordinators.follow(run.key, run.uid, endpoint)


def _doubtful(pods: Iterable[PodView], state: CoordinatorState, ending: Iterable[str]) -> set[str]:
    """Return the Nodes to read again before the operator concludes anything from them."""
    missed = {missed.agent.node_name for missed in state.missed}
    return missed | {pod.node for pod in pods if pod.live}.intersection(ending)


def _why(status: TrainingRunStatus) -> str:
    ready = find(status.conditions, ConditionType.READY)
    return f"{ready.reason}: {ready.message}"[:300] if ready is not None else ""
