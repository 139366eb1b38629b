"""A run that should train: coordinator first, then workers, then whatever was lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from footplate_contracts.names import (
    Phase,
    config_map_name,
    coordinator_pod_name,
    coordinator_service_name,
    secret_name,
)
from footplate_contracts.reports import HangCommand, SizeCommand
from footplate_contracts.v1alpha1.status import CoordinatorStatus, TrainingRunStatus
from footplate_operator.runtime.clock import format_time
from footplate_operator.runtime.kinds import (
    CONFIG_MAP,
    DISRUPTION_BUDGET,
    REVISION,
    SECRET,
    SERVICE,
    Json,
    Kind,
)
from footplate_operator.trainingrun.desired import report
from footplate_operator.trainingrun.desired.desired import Desired, soonest
from footplate_operator.trainingrun.desired.situation import Situation, broken_generation
from footplate_operator.trainingrun.gang import retire
from footplate_operator.trainingrun.gang.retire import Surplus, unique
from footplate_operator.trainingrun.manifests import children, coordinator, worker
from footplate_operator.trainingrun.observed import Child
from footplate_operator.trainingrun.revision import hang, size
from footplate_operator.trainingrun.status import attempts
from footplate_operator.trainingrun.status.phase import active_phase

POLL_SECONDS: Final = 2.0  # how often to look again while something is about to happen


def active(here: Situation) -> Desired:
    """What is missing, what is too much, and what is seen."""
    current = here.leader.current
    # The first gang waits for the coordinator's address; a substitute never waits.
    may_start = bool(current and current.address) or here.story.open is not None
    make = here.gang.missing if may_start and here.making else ()
    pods = _coordinator(here) + [
        worker.pod(here.run, here.revision, index, incarnation, current.address if current else "")
        for index, incarnation in make
    ]
    pods += [
        worker.spare(here.run, here.revision, number, incarnation, current.address if current else "")
        for number, incarnation in (here.reserve.missing if may_start and here.making else ())
    ]
    after, phase = _status(here, may_start, len(make))
    return Desired(
        status=after,
        secret=not here.observed.has(SECRET, secret_name(here.run.name)),
        children=tuple(_missing_children(here)),
        pods=tuple(pods),
        promoted=here.promoted,
        surplus=unique(_too_much(here)),
        surplus_children=tuple(_old_configs(here)),
        coordinator=current if current and current.address else None,
        size=_new_size(here),
        hang=_new_hang(here),
        terms=here.new_terms,
        again=_next_look(here, phase),
    )


def _new_size(here: Situation) -> SizeCommand | None:
    """The size that the coordinator should be told of; None where it knows, or nobody is heard."""
    wanted = size(here.run)
    return wanted if here.state is not None and here.state.size != wanted else None


def _new_hang(here: Situation) -> HangCommand | None:
    """What the coordinator should hold to be a hang; None where it does, or nobody is heard."""
    wanted = hang(here.run)
    known = here.state.hang if here.state is not None else None
    return wanted if known not in (None, wanted) else None


def _coordinator(here: Situation) -> list[Json]:
    if not here.making or here.leader.current is not None or here.leader.due > here.now:
        return []
    return [coordinator.pod(here.run, here.revision, here.leader.epoch)]


def _status(here: Situation, may_start: bool, made: int) -> tuple[TrainingRunStatus, Phase]:
    run, story = here.run, here.story
    if may_start and here.gang.due is None and (here.making or here.gang.complete):
        story = attempts.begin(story, here.scene)
    current = story.open.generation if story.open else ""
    phase = active_phase(run.phase, here.state, broken_generation(story), current, here.interrupted)
    after = report.seen(here, phase, report.progressing(here, phase, may_start), story)
    update: dict[str, object] = {
        "replicas": after.replicas + made,
        "start_time": run.status.start_time or format_time(here.now),
        "revision": here.revision.name(run.name),
    }
    if may_start:
        update["incarnation"] = here.reserve.counter(here.gang.counter) if here.making else here.gang.counter
    if _coordinator(here):
        epoch = here.leader.epoch
        name = coordinator_pod_name(run.name, epoch)
        update["coordinator"] = CoordinatorStatus(pod_name=name, epoch=epoch)
    return after.model_copy(update=update), phase


def _missing_children(here: Situation) -> list[Json]:
    run, revision = here.run, here.revision
    digest = revision.frozen.config.digest()
    wanted: list[tuple[Kind, str, Callable[[], Json]]] = [
        (REVISION, revision.name(run.name), lambda: children.controller_revision(run, revision)),
        (CONFIG_MAP, config_map_name(run.name, digest), lambda: children.config_map(run, revision)),
        (SERVICE, coordinator_service_name(run.name), lambda: children.service(run)),
        (DISRUPTION_BUDGET, run.name, lambda: children.disruption_budget(run)),
    ]
    return [build() for kind, name, build in wanted if not here.observed.has(kind, name)]


def _old_configs(here: Situation) -> list[Child]:
    in_force = config_map_name(here.run.name, here.revision.frozen.config.digest())
    return [child for child in here.observed.children if child.kind == CONFIG_MAP and child.name != in_force]


def _too_much(here: Situation) -> list[Surplus]:
    observed, retention = here.observed, here.run.spec.pod_retention_seconds
    pods = observed.workers()
    found = retire.superseded_workers(pods, here.nodes, here.training, here.now)
    found += retire.stale_coordinators(observed.coordinators(), here.leader.epoch)
    found += retire.crowded(observed.coordinators())
    for index in {pod.index for pod in pods}:
        failed = [pod for pod in pods if pod.index == index and pod.phase == "Failed"]
        found += retire.crowded(failed)
    found += retire.crowded([pod for pod in observed.spares() if pod.phase == "Failed"])
    found += retire.unwanted(observed.spares(), here.run.spec.compute.spares)
    filled = {pod.uid for pod in here.gang.current}
    return found + retire.expired(
        (pod for pod in observed.pods if pod.uid not in filled), retention, here.now
    )


def _next_look(here: Situation, phase: Phase) -> float | None:
    failed = [pod for pod in here.observed.pods if pod.phase == "Failed"]
    retention = retire.next_expiry(failed, here.run.spec.pod_retention_seconds, here.now)
    waits = [
        (due - here.now).total_seconds()
        for due in (here.leader.due, here.gang.due, here.reserve.due)
        if due is not None and due > here.now
    ]
    return soonest(retention, *waits, POLL_SECONDS if _expecting(here, phase) else None)


def _expecting(here: Situation, phase: Phase) -> bool:
    return phase is not Phase.RUNNING or here.gang.succeeded
