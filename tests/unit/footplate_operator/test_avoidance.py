"""Which nodes a run avoids, for how long, and what happens where that leaves none."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from footplate_contracts.coordinator_state import CoordinatorState, NumberedFailure
from footplate_contracts.failures import FailureReport
from footplate_contracts.names import Cause, ExitCode, Phase, Reason
from footplate_contracts.rendezvous import AgentIdentity
from footplate_contracts.v1alpha1.status import Attempt, TrainingRunStatus
from footplate_operator.trainingrun.avoidance import (
    BROKEN,
    FORGIVEN,
    MOST,
    MOST_STUCK,
    REFUSED,
    NodeAvoidance,
)
from footplate_operator.trainingrun.events import not_avoided_events
from footplate_operator.trainingrun.observation import PodView

NOW = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)
SILENT = CoordinatorState.empty()
STATUS = TrainingRunStatus()


def pod(node: str = "a", **fields: object) -> PodView:
    """A worker."""
    view = PodView(
        name=f"on-{node}",
        uid=f"on-{node}",
        namespace="default",
        owner_uid="run",
        role="worker",
        created=NOW,
        ended_since=NOW,
        node=node,
    )
    return replace(view, **fields)


def broken(node: str = "a", **fields: object) -> PodView:
    """A worker whose agent gave its place up, since the driver calls a GPU broken."""
    ended = {"phase": "Failed", "started": True, "exit_code": ExitCode.GPU_ERROR}
    return pod(node, **{**ended, **fields})


def rejected(node: str = "a") -> PodView:
    """A worker that a kubelet did not admit."""
    return pod(node, phase="Failed", reason="UnexpectedAdmissionError")


def failed(node: str, reason: Reason = Reason.GPU_ERROR) -> CoordinatorState:
    """A coordinator that was told of a failure there."""
    agent = AgentIdentity(
        index=0, incarnation=0, pod_name="w", pod_uid="w", node_name=node, address="", local_world_size=1
    )
    report = FailureReport(cause=Cause.NODE_LOST, reason=reason, message="", time=0.0)
    return SILENT.model_copy(
        update={"failures": [NumberedFailure(number=1, agent=agent, failure=report, generation=None)]}
    )


def ended(node: str, reason: str = "GpuError") -> TrainingRunStatus:
    """A status that tells of such an end."""
    moment = NOW.isoformat()
    attempt = Attempt(number=1, start=moment, nodes=1, start_step=0, end=moment, reason=reason, node=node)
    return TrainingRunStatus(attempts=[attempt])


@pytest.mark.parametrize(
    ("status", "pods", "state", "lasting"),
    [
        pytest.param(STATUS, [broken()], SILENT, BROKEN, id="its-pod-says-so"),
        pytest.param(STATUS, [], failed("a"), BROKEN, id="the-coordinator-says-so"),
        pytest.param(ended("a"), [], SILENT, BROKEN, id="the-status-says-so"),
        pytest.param(STATUS, [rejected()], SILENT, REFUSED, id="rejected"),
    ],
)
def test_a_node_is_avoided_for_as_long_as_its_trouble_may_last(
    status: TrainingRunStatus, pods: list[PodView], state: CoordinatorState, lasting: timedelta
) -> None:
    avoidance = NodeAvoidance()
    for passed, expected in ((timedelta(0), {"a"}), (lasting / 2, {"a"}), (lasting, set())):
        avoidance.update(status, pods, state, NOW + passed)
        assert avoidance.view.broken | avoidance.view.refused == expected


@pytest.mark.parametrize(
    ("status", "pods", "state"),
    [
        pytest.param(ended("a", "AgentLost"), [], SILENT, id="another-end"),
        pytest.param(STATUS, [], failed("a", Reason.AGENT_LOST), id="another-failure"),
        pytest.param(STATUS, [broken(exit_code=ExitCode.STALE)], SILENT, id="superseded"),
    ],
)
def test_a_node_that_is_not_to_blame_is_not_avoided(
    status: TrainingRunStatus, pods: list[PodView], state: CoordinatorState
) -> None:
    avoidance = NodeAvoidance()
    avoidance.update(status, pods, state, NOW)
    assert not avoidance.view.broken | avoidance.view.refused


def test_a_rack_is_avoided_whole_and_what_a_full_list_drops_is_told_once() -> None:
    nodes = [f"node-{number:03}" for number in range(MOST + 2)]
    pods = [broken(node, ended_since=NOW + timedelta(seconds=at)) for at, node in enumerate(nodes)]
    avoidance, late = NodeAvoidance(), NOW + timedelta(minutes=5)
    avoidance.update(STATUS, pods[:72], SILENT, late)
    assert avoidance.view.broken == set(nodes[:72]) and not avoidance.view.dropped
    avoidance.update(STATUS, pods, SILENT, late)
    assert avoidance.view.broken == set(nodes[2:]) and avoidance.view.dropped == ("node-000", "node-001")
    assert "node-000, node-001" in not_avoided_events(avoidance.view.dropped)[0].note
    avoidance.update(STATUS, pods, SILENT, late)
    assert not avoidance.view.dropped


def test_a_mistake_of_the_manifest_does_not_run_out_of_nodes() -> None:
    held = NOW - timedelta(minutes=2)
    pods = [pod(node, phase="Pending", held_since=held) for node in ("a", "b", "c", "d")]
    avoidance = NodeAvoidance()
    avoidance.update(STATUS, pods, SILENT, NOW)
    assert len(avoidance.view.refused) == MOST_STUCK


def test_the_oldest_is_forgiven_where_no_other_node_has_room_for_long() -> None:
    pods = [broken("a"), broken("b", ended_since=NOW + timedelta(seconds=9))]
    waits = pod("", name="waits", phase="Pending", unschedulable="0/2 nodes", avoids=frozenset({"a", "b"}))
    avoidance, starting = NodeAvoidance(), TrainingRunStatus(phase=Phase.RESTARTING)
    avoidance.update(starting, [*pods, waits], SILENT, NOW)
    said = avoidance.explained(waits).unschedulable
    assert said == "0/2 nodes; the run avoids b (GpuError), a (GpuError)"
    avoidance.update(starting, pods, SILENT, NOW + FORGIVEN / 2)
    assert avoidance.view.broken == {"a", "b"}
    avoidance.update(starting, [*pods, waits], SILENT, NOW + FORGIVEN)
    avoidance.update(starting, pods, SILENT, NOW + FORGIVEN)
    assert avoidance.view.broken == {"b"}
    again = broken("a", uid="again", ended_since=NOW + FORGIVEN * 1.1)
    avoidance.update(starting, [*pods, again], SILENT, NOW + FORGIVEN * 1.1)
    assert avoidance.view.broken == {"a", "b"}


def test_a_run_that_trains_forgives_nothing() -> None:
    waits = pod("", name="waits", phase="Pending", unschedulable="0/2 nodes", avoids=frozenset({"a"}))
    avoidance, running = NodeAvoidance(), TrainingRunStatus(phase=Phase.RUNNING)
    for hour in range(5):
        avoidance.update(running, [broken(), waits], SILENT, NOW + hour * FORGIVEN)
    assert avoidance.view.broken == {"a"}
