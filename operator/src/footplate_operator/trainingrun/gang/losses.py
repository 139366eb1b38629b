"""Workers that are gone, or may be, and nodes to avoid for now.

The coordinator notices a loss first, and may be cut off; Kubernetes takes a minute, and may be wrong about an
agent that trains on behind a broken kubelet. So each confirms what the other suspects. A worker that
counts as gone is fenced and substituted, and both can be undone: the operator leaves its pod alone as long
as it may still come back.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Final

from footplate_contracts.coordinator_state import CoordinatorState, RunState, Verdict
from footplate_contracts.directives import GoneWorker
from footplate_contracts.names import Cause, WorkerId
from footplate_contracts.rendezvous import AgentIdentity
from footplate_operator.trainingrun.observation import PodView

UNREADY_SECONDS: Final = 2.0  # longer than a pod takes from its first container to Ready
# A kubelet takes note of a pod within a second of its binding; on a node that is gone nobody does.
UNACCEPTED_SECONDS: Final = 10.0
STUCK_SECONDS: Final = 60.0  # for an image, a mount or a container to come right where it is
MUTE_SECONDS: Final = 60.0  # an agent speaks a second after its container has started
# Where nobody is heard it is rather the coordinator that cannot hear: another one listens before.
ALL_MUTE_SECONDS: Final = 110.0
# By then Kubernetes has noticed by itself what is true, and keeps pods away from such a node.
AVOIDED_SECONDS: Final = 90.0
_MOST_SHOWN: Final = 4  # pairs of nodes, in a condition
_MOST_AVOIDED: Final = 128  # nodes, a rack of 72 and more; a larger loss is rather the network's


def find_lost(
    state: CoordinatorState,
    pods: Iterable[PodView],
    now: datetime,
    serving: float = 0.0,
    waited: float = 0.0,
) -> frozenset[WorkerId]:
    """Return the workers that need a substitute, though their pods exist.

    Args:
        serving: seconds for which the coordinator that reported `state` has run.
        waited: seconds for which the run has been about to train.
    """
    known = list(pods)
    mute = _mute(state, known, now, waited) if serving >= MUTE_SECONDS else frozenset()
    missed = {missed.agent.worker for missed in state.missed if missed.verdict is not Verdict.SUSPECT}
    return frozenset(missed) | _listed(state) | _unheard(state, known, now) | _not_starting(known, now) | mute


def find_gone(state: CoordinatorState, pods: Iterable[PodView], now: datetime) -> list[GoneWorker]:
    """Return suspected workers that Kubernetes misses as well, and missed workers whose pods have ended."""
    known = list(pods)
    here = {pod.worker for pod in known if pod.live and not _missed_by_kubernetes(pod, now)}
    # Of a pod that went with its Node nobody knows what runs there.
    seen = {pod.worker for pod in known if pod.ended and pod.disruption != "DeletionByPodGC"}
    ended = seen & {missed.agent.worker for missed in state.missed}
    suspects = {missed.agent.worker for missed in state.missed if missed.verdict is Verdict.SUSPECT}
    return [
        GoneWorker(index=worker.index, incarnation=worker.incarnation, ended=worker in ended)
        for worker in sorted((suspects - here) | ended, key=lambda worker: (worker.index, worker.incarnation))
    ]


def list_suspect_nodes(state: CoordinatorState, pods: Iterable[PodView], now: datetime) -> frozenset[str]:
    """Return the nodes that may be gone without Kubernetes knowing yet, at most as many as the list holds."""
    return frozenset(_suspects(state, pods, now)[:_MOST_AVOIDED])


def list_excess_suspects(state: CoordinatorState, pods: Iterable[PodView], now: datetime) -> list[str]:
    """Return the nodes that may be gone beyond those that the list holds."""
    return _suspects(state, pods, now)[_MOST_AVOIDED:]


def _suspects(state: CoordinatorState, pods: Iterable[PodView], now: datetime) -> list[str]:
    known = list(pods)
    # Once such a pod has ended or is gone, its kubelet has answered.
    there = {pod.uid for pod in known if not pod.ended}
    silent = {
        missed.agent.node_name
        for missed in state.missed
        if missed.verdict is not Verdict.ENDED
        and missed.agent.pod_uid in there
        and missed.seconds < AVOIDED_SECONDS
    }
    deaf = {pod.node for pod in known if not pod.ended and pod.unaccepted_for(now) >= UNACCEPTED_SECONDS}
    return sorted(silent | deaf)


def has_no_contact(state: CoordinatorState, pods: Iterable[PodView], now: datetime) -> bool:
    """Return whether a coordinator that answers has no contact to workers, though some have run for long."""
    gathers = state.is_received and state.state is RunState.GATHERING
    running = any(pod.live and pod.running_for(now) >= MUTE_SECONDS for pod in pods)
    return gathers and running and not list_joined(state) and not state.waiting


def list_unreachable(state: CoordinatorState) -> frozenset[WorkerId]:
    """Return the workers that the coordinator reaches and a peer does not: they should run elsewhere."""
    return frozenset(m.agent.worker for m in state.missed if m.verdict is Verdict.UNREACHABLE)


def describe_partition(state: CoordinatorState) -> str:
    """Describe the nodes that do not reach each other, though all reach the coordinator; empty for none."""
    said = [
        f"{_where(pair.one)} and {_where(pair.other)} cannot reach each other"
        for pair in state.unreachable[:_MOST_SHOWN]
    ]
    return "; ".join(said)


def _where(agent: AgentIdentity) -> str:
    who = "a spare" if agent.is_spare else f"worker {agent.index}"
    return f"node {agent.node_name or agent.address} ({who})"


def list_joined(state: CoordinatorState) -> frozenset[WorkerId]:
    """Return the workers that train, or are ready to."""
    missed = {missed.agent.worker for missed in state.missed}
    newest: dict[int, int] = {}  # a member of a generation that is over may have been replaced since
    for agent in (*(member.agent for member in state.members), *state.waiting):
        if not agent.is_spare:
            newest[agent.index] = max(newest.get(agent.index, -1), agent.incarnation)
    missing = set(state.missing)
    return frozenset(WorkerId(*worker) for worker in newest.items() if worker[0] not in missing) - missed


def _listed(state: CoordinatorState) -> frozenset[WorkerId]:
    """Return the lost workers among the failures: an earlier release lists one loss per generation there."""
    missing = set(state.missing)
    return frozenset(
        failure.agent.worker
        for failure in state.failures
        if failure.failure.cause is Cause.NODE_LOST and failure.agent.index in missing
    )


def _unheard(state: CoordinatorState, pods: Iterable[PodView], now: datetime) -> frozenset[WorkerId]:
    """Return the workers that both coordinator and Kubernetes miss.

    The coordinator gathers, or trains without the slot, and has no contact to it,
    and Kubernetes says that the pod there, which ran, is not ready any more, or that its node is gone. A
    coordinator that was lost with the same node has a successor that never knew
    the worker, so it cannot call it lost.
    """
    gathers = state.state is RunState.GATHERING
    missing = set(state.missing) - (frozenset() if gathers else state.member_indices)
    return frozenset(
        pod.worker
        for pod in pods
        if pod.live and pod.started and pod.index in missing and _missed_by_kubernetes(pod, now)
    )


def _missed_by_kubernetes(pod: PodView, now: datetime) -> bool:
    """Return whether Kubernetes, too, misses `pod` or its node."""
    return bool(pod.node_lost) or pod.unready_for(now) >= UNREADY_SECONDS


def _mute(
    state: CoordinatorState, pods: Iterable[PodView], now: datetime, waited: float
) -> frozenset[WorkerId]:
    """Return long-running workers without contact to a coordinator that has others, or to two in turn."""
    if not list_joined(state) and not state.waiting and waited < ALL_MUTE_SECONDS:
        return frozenset()
    missing = set(state.missing)
    return frozenset(
        pod.worker
        for pod in pods
        if pod.live and pod.index in missing and pod.running_for(now) >= MUTE_SECONDS
    )


def _not_starting(pods: Iterable[PodView], now: datetime) -> frozenset[WorkerId]:
    """Return the workers that their node's kubelet has not accepted, or that cannot start there."""
    return frozenset(pod.worker for pod in pods if pod.live and _cannot_start(pod, now))


def _cannot_start(pod: PodView, now: datetime) -> bool:
    # A Node of the same name may have been made this moment, and be told of after the pod.
    if not pod.started and pod.node_lost and pod.bound_for(now) >= UNREADY_SECONDS:
        return True
    return pod.unaccepted_for(now) >= UNACCEPTED_SECONDS or pod.stuck_for(now) >= STUCK_SECONDS
