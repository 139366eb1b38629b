"""Which pods a gang is short of, and which coordinator serves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from footplate_contracts.coordinator_state import CoordinatorState, RunState
from footplate_contracts.names import WorkerId
from footplate_contracts.rendezvous import AgentIdentity, Member
from footplate_operator.runtime.decision import Delete, Patch
from footplate_operator.trainingrun.gang import losses, retirement
from footplate_operator.trainingrun.gang.coordinator import plan_coordinator
from footplate_operator.trainingrun.gang.plan import (
    Slots,
    interrupting,
    plan_workers,
)
from footplate_operator.trainingrun.observation import LostWorker, PodView

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
SILENT = CoordinatorState.empty()


def pod(index: int, incarnation: int = 0, **state: Any) -> PodView:
    return PodView(
        **{
            "name": f"tiny-w{index}-{incarnation}",
            "uid": f"uid-{index}-{incarnation}",
            "owner_uid": "run",
            "role": "worker",
            "created": NOW - timedelta(minutes=5),
            "index": index,
            "incarnation": incarnation,
            "phase": "Running",
            "started": True,
            **state,
        }
    )


def leader(epoch: int, **state: Any) -> PodView:
    return pod(0, role="coordinator", name=f"tiny-c{epoch}", uid=f"c{epoch}", epoch=epoch, **state)


def slots(**known: Any) -> Slots:
    return Slots(**{"nodes": 2, "counter": 0, "launched": True, "fresh": False, **known})


@pytest.mark.parametrize(
    ("known", "pods", "missing", "lost", "counter"),
    [
        pytest.param(slots(fresh=True, launched=False), [], [(0, 0), (1, 0)], [], 0, id="the-first-gang"),
        pytest.param(
            slots(fresh=True, launched=False), [pod(0)], [(1, 0)], [], 0, id="the-rest-of-the-first-gang"
        ),
        pytest.param(slots(), [pod(0), pod(1)], [], [], 0, id="complete"),
        pytest.param(slots(), [pod(0)], [(1, 1)], [1], 1, id="gone"),
        pytest.param(slots(spare=3), [pod(0)], [(1, 4)], [1], 4, id="gone-and-a-crash-hid-a-spare"),
        pytest.param(slots(), [pod(0), pod(1, terminating=True)], [(1, 1)], [1], 1, id="terminating"),
        pytest.param(slots(), [pod(0), pod(1, phase="Failed")], [(1, 1)], [1], 1, id="failed"),
        pytest.param(slots(), [pod(0), pod(1, phase="Succeeded")], [], [], 0, id="succeeded"),
        pytest.param(
            slots(lost=frozenset({WorkerId(1, 0)})),
            [pod(0), pod(1)],
            [(1, 1)],
            [1],
            1,
            id="the-coordinator-lost-it",
        ),
        pytest.param(
            slots(counter=1, lost=frozenset({WorkerId(1, 0)})),
            [pod(0), pod(1), pod(1, 1)],
            [],
            [],
            1,
            id="its-substitute-is-there",
        ),
        pytest.param(
            slots(), [pod(0), pod(1, 1)], [], [1], 1, id="made-just-before-a-crash-and-not-counted-yet"
        ),
        pytest.param(
            slots(counter=7, launched=False), [], [(0, 8), (1, 8)], [], 8, id="resumed-no-name-returns"
        ),
        pytest.param(
            slots(may_create=False), [pod(0)], [(1, 1)], [], 0, id="refused-just-now-nothing-is-claimed"
        ),
    ],
)
def test_plan(
    known: Slots, pods: list[PodView], missing: list[tuple[int, int]], lost: list[int], counter: int
) -> None:
    plan = plan_workers(known, pods, NOW)
    assert list(plan.missing) == [WorkerId(*worker) for worker in missing]
    assert [worker.index for worker in plan.lost] == lost
    assert plan.counter == counter


def test_a_crash_loop_slows_down() -> None:
    young = {"phase": "Failed", "lived": 3.0, "ended_since": NOW}
    plan = plan_workers(slots(), [pod(0), pod(1, 0, **young), pod(1, 1, **young)], NOW)
    assert (plan.missing, plan.due) == ((), NOW + timedelta(seconds=2))
    assert not plan.complete


@pytest.mark.parametrize(
    ("phases", "succeeded"),
    [
        pytest.param(["Succeeded", "Succeeded"], True, id="all"),
        pytest.param(["Succeeded", "Running"], False, id="one-still-runs"),
        pytest.param(["Succeeded", "Failed"], False, id="one-failed"),
    ],
)
def test_succeeded(phases: list[str], succeeded: bool) -> None:
    pods = [pod(index, phase=phase) for index, phase in enumerate(phases)]
    assert plan_workers(slots(), pods, NOW).succeeded is succeeded


@pytest.mark.parametrize(
    ("pods", "known", "begun", "current", "epoch"),
    [
        pytest.param([], 0, False, None, 1, id="the-first"),
        pytest.param([leader(1)], 1, True, "c1", 1, id="serves"),
        pytest.param([leader(1, phase="Failed")], 1, True, None, 2, id="failed"),
        pytest.param([], 1, True, None, 2, id="gone-without-a-trace"),
        pytest.param([leader(1, terminating=True)], 1, True, None, 2, id="terminating"),
        pytest.param([leader(1), leader(2)], 1, True, "c2", 2, id="the-higher-epoch-serves"),
        pytest.param([leader(1)], 1, False, None, 2, id="resumed-the-old-one-is-closed"),
        pytest.param([leader(1), leader(2)], 1, False, "c2", 2, id="resumed-and-made-before-a-crash"),
    ],
)
def test_coordinator(pods: list[PodView], known: int, begun: bool, current: str | None, epoch: int) -> None:
    plan = plan_coordinator(pods, known, begun, 0.0, NOW)
    assert (plan.current.uid if plan.current else None, plan.epoch) == (current, epoch)


NEW = pod(1, 1, seen_since=NOW - timedelta(seconds=5))
LATE = pod(1, 1, seen_since=NOW - timedelta(seconds=40))
WAITS = pod(1, 1, phase="Pending", started=False, seen_since=NOW - timedelta(hours=1))


@pytest.mark.parametrize(
    ("new", "heard", "started", "goes"),
    [
        pytest.param(NEW, [0], True, [], id="it-may-come-back"),
        pytest.param(LATE, [0], True, [0], id="it-had-its-time"),
        pytest.param(NEW, [0, 1], True, [0], id="the-new-one-trains"),
        pytest.param(NEW, [0], False, [0], id="never-started"),
        pytest.param(WAITS, [0, 0], True, [1], id="it-came-back-before-its-substitute-started"),
        pytest.param(LATE, [0, 0], True, [], id="it-came-back-and-the-coordinator-decides"),
    ],
)
def test_which_of_two_pods_of_a_slot_goes(
    new: PodView, heard: list[int], started: bool, goes: list[int]
) -> None:
    old = pod(1, started=started)
    told = _generation(RunState.TRAINING, *heard)
    found = retirement.superseded_workers([pod(0), old, new], 2, told, NOW)
    assert [removal.child for removal in found] == [[old, new][number] for number in goes]


@pytest.mark.parametrize(
    ("known", "avoided", "goes"),
    [
        pytest.param({}, {"a"}, False, id="still-avoided"),
        pytest.param({}, set(), True, id="not-to-be-avoided-any-more"),
        pytest.param({"node": "b"}, set(), False, id="it-has-a-node"),
        pytest.param({"seen_since": NOW - timedelta(seconds=5)}, set(), False, id="it-may-have-one-by-now"),
        pytest.param({"unschedulable": ""}, set(), False, id="the-scheduler-has-not-looked-at-it"),
    ],
)
def test_a_pod_that_waits_is_not_kept_from_a_node_for_ever(
    known: dict[str, Any], avoided: set[str], goes: bool
) -> None:
    usual = {"phase": "Pending", "started": False, "avoids": frozenset({"a", "user"})}
    usual |= {"unschedulable": "no room", "seen_since": NOW - timedelta(minutes=1)}
    waits = pod(1, 1, **usual | known)
    found = retirement.misplaced([waits], frozenset(avoided), ["user"], NOW)
    assert [removal.child for removal in found] == ([waits] if goes else [])
    assert all(removal.grace for removal in found), "it may be on a node by now"


AGO = NOW - timedelta(minutes=5)
MOMENT = NOW - timedelta(seconds=3)


@pytest.mark.parametrize(
    ("known", "silence", "replaced"),
    [
        pytest.param({"ran_since": AGO}, 7.0, False, id="it-may-be-busy"),
        pytest.param({"ran_since": AGO}, 9.0, True, id="silent"),
        pytest.param({"ran_since": MOMENT}, 9.0, False, id="it-has-just-started"),
        pytest.param({"started": False, "bound_since": AGO}, 0.0, True, id="its-kubelet-takes-no-note"),
        pytest.param({"started": False, "bound_since": MOMENT}, 0.0, False, id="just-bound"),
        pytest.param(
            {"started": False, "accepted": True, "node": "a", "held_since": AGO},
            0.0,
            True,
            id="held-up-there",
        ),
        pytest.param(
            {"started": False, "accepted": True, "node": "a", "held_since": MOMENT}, 0.0, False, id="pulling"
        ),
        pytest.param({"started": False, "held_since": AGO}, 0.0, False, id="nowhere-is-room"),
    ],
)
def test_one_that_does_not_answer_is_replaced(known: dict[str, Any], silence: float, replaced: bool) -> None:
    plan = plan_coordinator([leader(2, **known)], 2, True, silence, NOW)
    assert (plan.current is None, plan.epoch) == ((True, 3) if replaced else (False, 2))


@pytest.mark.parametrize(
    ("known", "unusable", "avoided"),
    [
        pytest.param({}, set(), set(), id="it-may-be-put-beside-earlier-ones"),
        pytest.param({}, {"b"}, {"b"}, id="but-on-no-node-that-is-lost"),
        pytest.param({}, {"a", "b"}, None, id="kept-away-from-lost-nodes-only"),
        pytest.param({"seen_since": MOMENT}, set(), None, id="the-scheduler-has-its-time"),
        pytest.param({"unschedulable": ""}, set(), None, id="the-scheduler-has-not-looked-at-it"),
        pytest.param({"node": "c"}, set(), None, id="it-has-a-node"),
        pytest.param({"avoids": frozenset()}, set(), None, id="no-room-anywhere"),
    ],
)
def test_a_coordinator_is_not_kept_from_the_nodes_of_earlier_ones_for_ever(
    known: dict[str, Any], unusable: set[str], avoided: set[str] | None
) -> None:
    usual = {"phase": "Pending", "started": False, "node": "", "unschedulable": "no room", "seen_since": AGO}
    waits = leader(3, **usual | {"avoids": frozenset({"a", "b"})} | known)
    earlier = [leader(1, terminating=True, node="a"), leader(2, terminating=True, node="b")]
    plan = plan_coordinator([*earlier, waits], 3, True, 0.0, NOW, unusable=frozenset(unusable))
    if avoided is None:
        assert (plan.current, plan.epoch) == (waits, 3)
    else:
        assert (plan.current, plan.epoch, plan.avoided) == (None, 4, avoided)


def state(of: RunState, missing: list[int]) -> CoordinatorState:
    return CoordinatorState(version=1, epoch=2, state=of, missing=missing)


def trains_with(index: int) -> CoordinatorState:
    agent = AgentIdentity(index=index, incarnation=0, pod_name="p", address="10.0.0.1", local_world_size=2)
    member = Member(agent=agent, group_rank=0, first_rank=0, store_port=1)
    return state(RunState.TRAINING, [1]).model_copy(update={"members": [member]})


GONE = pod(1, unready_since=NOW - timedelta(seconds=3))


@pytest.mark.parametrize(
    ("told", "seen", "lost"),
    [
        pytest.param(state(RunState.GATHERING, [1]), GONE, True, id="two-witnesses"),
        pytest.param(state(RunState.GATHERING, [1]), pod(1, ready=True), False, id="kubernetes-sees-it"),
        pytest.param(state(RunState.GATHERING, [0]), GONE, False, id="the-coordinator-hears-it"),
        pytest.param(trains_with(1), GONE, False, id="it-trains-somewhere"),
        pytest.param(trains_with(0), GONE, True, id="fewer-train-without-it"),
        pytest.param(SILENT, GONE, False, id="no-coordinator-no-action"),
        pytest.param(state(RunState.GATHERING, [1]), pod(1, started=False), False, id="it-starts"),
        pytest.param(
            state(RunState.GATHERING, [1]),
            pod(1, unready_since=NOW - timedelta(seconds=1)),
            False,
            id="a-moment",
        ),
    ],
)
def test_a_worker_is_gone_when_coordinator_and_kubernetes_miss_it(
    told: CoordinatorState, seen: PodView, lost: bool
) -> None:
    assert losses.find_lost(told, [pod(0, ready=True), seen], NOW) == ({WorkerId(1, 0)} if lost else set())


@pytest.mark.parametrize(
    ("training", "started", "goes"),
    [
        pytest.param([0, 0], True, False, id="it-trains-until-the-next-checkpoint"),
        pytest.param([0], True, True, id="it-trains-no-more"),
        pytest.param([], True, False, id="nobody-says"),
        pytest.param([], False, True, id="it-never-started"),
    ],
)
def test_a_place_beyond_the_size_goes_once_it_does_not_train(
    training: list[int], started: bool, goes: bool
) -> None:
    beyond = pod(1, started=started)
    found = retirement.superseded_workers([pod(0), beyond], 1, _generation(RunState.TRAINING, *training), NOW)
    assert [removal.child for removal in found] == ([beyond] if goes else [])


def _generation(of: RunState, *incarnations: int) -> CoordinatorState:
    members = [
        Member(
            agent=AgentIdentity(
                index=index, incarnation=incarnation, pod_name="p", address="10.0.0.1", local_world_size=2
            ),
            group_rank=index,
            first_rank=2 * index,
            store_port=1,
        )
        for index, incarnation in enumerate(incarnations)
    ]
    return CoordinatorState(version=1, epoch=1, state=of, members=members)


@pytest.mark.parametrize(
    ("index", "left", "told", "counted"),
    [
        pytest.param(1, pod(1), _generation(RunState.TRAINING, 0, 0), True, id="a-member"),
        pytest.param(1, None, _generation(RunState.TRAINING, 0, 0), True, id="a-member-without-a-trace"),
        pytest.param(1, pod(1, 1), _generation(RunState.TRAINING, 0), False, id="beside-a-smaller-world"),
        pytest.param(1, pod(1), _generation(RunState.LOADING, 0, 1), False, id="before-its-substitute"),
        pytest.param(1, pod(1, 1), _generation(RunState.GATHERING, 0, 0), True, id="while-all-wait-for-it"),
        pytest.param(2, None, _generation(RunState.GATHERING, 0, 0), False, id="a-place-just-asked-for"),
        pytest.param(2, None, SILENT, False, id="a-place-just-asked-for-and-nobody-speaks"),
        pytest.param(1, None, SILENT, True, id="nobody-speaks"),
    ],
)
def test_a_pod_that_nobody_trains_with_is_no_loss(
    index: int, left: PodView | None, told: CoordinatorState, counted: bool
) -> None:
    lost = LostWorker(index, left)
    assert interrupting([lost], told, trained=2) == ((lost,) if counted else ())


@pytest.mark.parametrize(
    ("state", "overdue", "how"),
    [
        pytest.param({}, False, [Patch], id="stopped-with-its-log-kept"),
        pytest.param({"deadline": True}, False, [], id="is-stopping"),
        pytest.param({"deadline": True}, True, [Delete], id="does-not-stop"),
        pytest.param({"phase": "Pending", "started": False}, False, [Delete], id="has-no-log"),
        pytest.param({"phase": "Failed"}, True, [], id="has-ended"),
    ],
)
def test_stop(state: dict[str, Any], overdue: bool, how: list[type]) -> None:
    assert [type(removal) for removal in retirement.stop([pod(0, **state)], overdue)] == how


def test_a_few_ended_pods_of_a_place_are_kept() -> None:
    ended = [pod(0, number, phase="Failed") for number in range(9)]
    assert [removal.child for removal in retirement.crowded(ended)] == ended[:2]
