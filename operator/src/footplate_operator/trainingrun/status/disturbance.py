"""Signs that a run that trains may lose its generation in a moment.

None of them is a failure yet: a silent agent may answer again, and a pod that is being
deleted saves first. The status shows them all the same, before it is over.
"""

from __future__ import annotations

from typing import Final

from footplate_contracts.coordinator_state import CoordinatorState
from footplate_operator.runtime.conditions import shorten
from footplate_operator.trainingrun.observation import Observed, PodView

SILENT_SECONDS: Final = 5.0  # of a coordinator; each long-poll is answered within about four


def disturbance(state: CoordinatorState, observed: Observed, unready: frozenset[str] = frozenset()) -> str:
    """Describe the members of the training generation that are missed or being deleted; empty for none.

    `unready`: uids of pods that have not been ready for a while.
    """
    members = {member.agent.worker for member in state.members}
    pods = {pod.worker: pod for pod in observed.workers}
    words = [
        f"worker {missed.agent.index} on node {missed.agent.node_name} sends no heartbeats"
        for missed in state.missed
        if missed.agent.worker in members
    ]
    words += [said for worker in sorted(members, key=str) if (said := _of_pod(pods.get(worker), unready))]
    if observed.silence >= SILENT_SECONDS:
        words.append("the coordinator does not answer")
    return shorten(words)


def _of_pod(pod: PodView | None, unready: frozenset[str]) -> str:
    """Describe the trouble of a member's pod; empty for none, and for a missing pod, a failure already."""
    if pod is None or pod.phase == "Succeeded":
        return ""
    where = f"pod {pod.name} on node {pod.node}"
    if pod.terminating:
        return f"{where} is being deleted"
    if pod.ended:
        return f"{where} has ended"
    return f"{where} is not ready" if pod.uid in unready else ""
