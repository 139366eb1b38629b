"""Workers that a peer does not reach: substituted elsewhere, kept until then, and named in a condition."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from footplate_contracts.coordinator_state import (
    CoordinatorState,
    MissedAgent,
    RunState,
    UnreachablePair,
    Verdict,
)
from footplate_contracts.names import WorkerId
from footplate_contracts.rendezvous import AgentIdentity, Member
from footplate_contracts.v1alpha1.status import TrainingRunStatus
from footplate_operator.trainingrun.avoidance import REFUSED, NodeAvoidance
from footplate_operator.trainingrun.gang import losses, retirement
from footplate_operator.trainingrun.gang.plan import Slots, plan_workers
from footplate_operator.trainingrun.observation import PodView

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
LONG_AGO = NOW - timedelta(hours=1)


def pod(index: int, incarnation: int = 0, **state: Any) -> PodView:
    usual = {
        "name": f"tiny-w{index}-{incarnation}",
        "uid": f"uid-{index}-{incarnation}",
        "owner_uid": "run",
        "role": "worker",
        "created": LONG_AGO,
        "index": index,
        "incarnation": incarnation,
        "phase": "Running",
        "node": f"node-{index}-{incarnation}",
        "started": True,
        "ready": True,
        "seen_since": LONG_AGO,
    }
    return PodView(**(usual | state))


def agent(index: int, incarnation: int = 0) -> AgentIdentity:
    return AgentIdentity(
        index=index,
        incarnation=incarnation,
        pod_name=f"tiny-w{index}-{incarnation}",
        pod_uid=f"uid-{index}-{incarnation}",
        node_name=f"node-{index}-{incarnation}",
        address="10.0.0.1",
        local_world_size=2,
    )


def told(*waiting: AgentIdentity, gave_way: bool = True) -> CoordinatorState:
    """Two of three do not reach each other, and worker 1 has given its place up; or all train."""
    state = CoordinatorState(version=1, epoch=1, state=RunState.GATHERING, waiting=list(waiting))
    if not gave_way:
        members = [
            Member(agent=agent(index), group_rank=index, first_rank=2 * index, store_port=1)
            for index in range(3)
        ]
        return state.model_copy(update={"members": members, "state": RunState.LOADING})
    missed = [MissedAgent(agent=agent(1), verdict=Verdict.UNREACHABLE, seconds=0.2)]
    pairs = [UnreachablePair(one=agent(0), other=agent(1))]
    return state.model_copy(update={"missed": missed, "missing": [1], "unreachable": pairs})


def test_it_has_a_substitute_that_is_put_elsewhere() -> None:
    pods = [pod(index) for index in range(3)]
    assert losses.find_lost(told(), pods, NOW) == {WorkerId(1, 0)}
    assert losses.list_suspect_nodes(told(), pods, NOW) == {"node-1-0"}


def test_a_condition_names_both_nodes() -> None:
    said = losses.describe_partition(told())
    assert said == "node node-0-0 (worker 0) and node node-1-0 (worker 1) cannot reach each other"
    assert not losses.describe_partition(told(gave_way=False))


@pytest.mark.parametrize(
    ("substitute", "state", "goes"),
    [
        pytest.param({"phase": "Pending", "started": False}, told(), [], id="it-has-no-room"),
        pytest.param({}, told(agent(0), agent(2)), [], id="it-starts"),
        pytest.param({}, told(agent(1, 1)), [0], id="it-has-joined"),
    ],
)
def test_it_stays_until_its_substitute_has_joined(
    substitute: dict[str, Any], state: CoordinatorState, goes: list[int]
) -> None:
    if goes:  # the place is not missed any more, and whoever had it is
        state = state.model_copy(update={"missing": []})
    both = [pod(1), pod(1, 1, **substitute)]
    found = retirement.superseded_workers([pod(0), *both, pod(2)], 3, state, NOW)
    assert [removal.child for removal in found] == [both[number] for number in goes]


def test_its_node_is_refused_for_a_while() -> None:
    avoidance, pods = NodeAvoidance(), [pod(index) for index in range(3)]
    avoidance.update(TrainingRunStatus(), pods, told(), NOW)
    assert avoidance.view.refused == {"node-1-0"}
    avoidance.update(TrainingRunStatus(), [pod(0)], CoordinatorState.empty(), NOW + REFUSED / 2)
    assert avoidance.view.refused == {"node-1-0"}
    avoidance.update(TrainingRunStatus(), [pod(0)], CoordinatorState.empty(), NOW + REFUSED)
    assert not avoidance.view.refused


def test_its_node_is_refused_no_more_once_it_trains_again() -> None:
    avoidance, pods = NodeAvoidance(), [pod(index) for index in range(3)]
    avoidance.update(TrainingRunStatus(), pods, told(), NOW)
    avoidance.update(TrainingRunStatus(), pods, told(gave_way=False), NOW)
    assert not avoidance.view.refused


@pytest.mark.parametrize(
    ("newest", "made"),
    [
        pytest.param({"terminating": True, "started": False}, [], id="its-substitute-goes-unstarted"),
        pytest.param({"terminating": True}, [2], id="its-substitute-had-started-and-was-deleted"),
        pytest.param({"phase": "Failed"}, [2], id="its-substitute-failed"),
    ],
)
def test_who_is_taken_back_needs_no_other_substitute(newest: dict[str, Any], made: list[int]) -> None:
    slots = Slots(nodes=2, counter=1, launched=True, fresh=False)
    plan = plan_workers(slots, [pod(0), pod(1), pod(1, 1, **newest)], NOW)
    assert [worker.incarnation for worker in plan.missing] == made
