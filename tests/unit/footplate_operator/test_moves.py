"""When pods leave nodes that are about to end, and which coordinator serves meanwhile."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from footplate_contracts.coordinator_state import CoordinatorState, RunState
from footplate_operator.trainingrun.gang import drain
from footplate_operator.trainingrun.gang.coordinator import plan_coordinator
from footplate_operator.trainingrun.gang.drain import SETTLE_SECONDS, TOGETHER_SECONDS
from footplate_operator.trainingrun.observation import PodView

NOW = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)


def pod(index: int = 0, noticed: float | None = None, epoch: int = 0, **fields: object) -> PodView:
    """One that runs; `noticed`: for so many seconds it should leave its node."""
    view = PodView(
        name=f"tiny-{index}-{epoch}",
        uid=f"{index}-{epoch}",
        namespace="default",
        owner_uid="run",
        role="coordinator" if epoch else "worker",
        created=NOW,
        index=index,
        epoch=epoch,
        phase="Running",
        node="a",
        started=True,
        ran_since=NOW - timedelta(minutes=5),
        notice="its node is cordoned" if noticed is not None else "",
        noticed_since=NOW - timedelta(seconds=noticed) if noticed is not None else None,
    )
    return replace(view, **fields)


def test_all_that_should_leave_do_once_one_should_for_a_moment() -> None:
    late, early, stays = pod(0, noticed=0.5), pod(1, noticed=SETTLE_SECONDS), pod(2)
    assert drain.select_due([late, early, stays], NOW) == drain.DrainStep((late, early))
    assert drain.select_due([late, stays], NOW) == drain.DrainStep(wait=SETTLE_SECONDS - 0.5)
    assert drain.select_due([stays], NOW) == drain.DrainStep()


def cordoned(index: int, seconds: float = 60.0, **fields: object) -> PodView:
    """A worker on a node that has been cordoned for so many seconds."""
    return pod(index, noticed=seconds, cordoned=True, **fields)


def spare(seconds: float = 60.0, **fields: object) -> PodView:
    """One that has run for so many seconds."""
    return pod(7, role="spare", name="s", ran_since=NOW - timedelta(seconds=seconds), **fields)


@pytest.mark.parametrize(
    ("workers", "ready", "expected"),
    [
        pytest.param([], [spare()], drain.DrainStep(), id="no-cordon"),
        pytest.param([cordoned(0)], [], drain.DrainStep(), id="no-spare"),
        pytest.param(
            [cordoned(0, 0.5)], [spare()], drain.DrainStep(wait=SETTLE_SECONDS - 0.5), id="just-now"
        ),
        pytest.param([cordoned(0)], [spare(1.0)], drain.DrainStep((cordoned(0),)), id="a-spare-waits"),
        pytest.param(
            [cordoned(0), cordoned(1)],
            [spare(4.0)],
            drain.DrainStep(wait=TOGETHER_SECONDS - 4.0),
            id="another-spare-may-be-on-its-way",
        ),
        pytest.param(
            [cordoned(0, 20.0), cordoned(1, 30.0)],
            [spare(TOGETHER_SECONDS)],
            drain.DrainStep((cordoned(1, 30.0),)),
            id="room-for-one",
        ),
        pytest.param(
            [cordoned(0, 4.0), cordoned(1, 4.0)],
            [spare(3600.0)],
            drain.DrainStep(wait=TOGETHER_SECONDS - 4.0),
            id="a-spare-that-was-there-before",
        ),
    ],
)
def test_workers_leave_cordoned_nodes_once_spares_wait(
    workers: list[PodView], ready: list[PodView], expected: drain.DrainStep
) -> None:
    assert drain.select_relieved(drain.CordonPlan(tuple(workers), tuple(ready)), NOW) == expected


@pytest.mark.parametrize(
    ("workers", "covered", "asked", "wanted", "kept"),
    [
        pytest.param([pod(0)], 0, 1, 1, 1, id="as-the-spec-asks"),
        pytest.param([cordoned(0)], 0, 0, 1, 1, id="one-for-the-worker"),
        pytest.param([cordoned(0, 0.0)], 0, 0, 0, 1, id="none-is-made-yet-and-none-withdrawn"),
        pytest.param([cordoned(0)], 0, 2, 2, 2, id="those-of-the-spec-do"),
        pytest.param([cordoned(0), cordoned(1)], 1, 1, 3, 3, id="one-has-a-slot-already"),
        pytest.param([cordoned(0, terminating=True)], 1, 0, 1, 1, id="it-leaves-and-its-spare-stays"),
    ],
)
def test_spares_are_made_for_workers_on_cordoned_nodes(
    workers: list[PodView], covered: int, asked: int, wanted: int, kept: int
) -> None:
    state = CoordinatorState.empty().model_copy(update={"state": RunState.TRAINING})
    found = drain.plan_cordon(workers, [], state, covered, asked, NOW)
    assert (found.wanted, found.kept) == (wanted, kept)


def test_an_eviction_says_that_its_node_is_drained() -> None:
    evicted = pod(0, terminating=True, disruption="EvictionByEvictionAPI", node="a")
    there, elsewhere = cordoned(1, node="a"), cordoned(2, node="b")
    assert drain.find_drained([evicted, there, elsewhere], [evicted, there, elsewhere]) == [there]


@pytest.mark.parametrize("gone", [{"terminating": True}, {"phase": "Succeeded"}], ids=["leaving", "ended"])
def test_who_leaves_already_is_not_told_twice(gone: dict[str, object]) -> None:
    assert drain.select_due([pod(0, noticed=60.0, **gone)], NOW) == drain.DrainStep()


@pytest.mark.parametrize(
    ("pods", "silence", "held", "serves", "makes"),
    [
        pytest.param([pod(epoch=1)], 0.0, False, 1, None, id="it-stays"),
        pytest.param([pod(epoch=1, noticed=1.0)], 0.0, False, 1, None, id="seen-just-now"),
        pytest.param([pod(epoch=1, noticed=9.0)], 0.0, True, 1, None, id="workers-save-first"),
        pytest.param([pod(epoch=1, noticed=9.0)], 0.0, False, 1, 2, id="its-successor-is-made"),
        pytest.param([pod(epoch=1, noticed=9.0)], 9.0, True, None, 2, id="it-is-silent"),
        pytest.param(
            [pod(epoch=1, noticed=9.0), pod(epoch=2, started=False)], 0.0, False, 1, None, id="on-its-way"
        ),
        pytest.param([pod(epoch=1, noticed=9.0), pod(epoch=2)], 0.0, False, 2, None, id="it-has-started"),
        pytest.param(
            [pod(epoch=1, noticed=9.0), pod(epoch=2, started=False, bound_since=NOW - timedelta(seconds=60))],
            0.0,
            False,
            1,
            3,
            id="the-successor-is-stuck",
        ),
        pytest.param(
            [pod(epoch=1, noticed=9.0), pod(epoch=2, started=False)], 9.0, False, 2, None, id="the-first-died"
        ),
        pytest.param(
            [pod(epoch=1, noticed=9.0), pod(epoch=2, phase="Failed")], 0.0, False, 1, 3, id="the-second-died"
        ),
        pytest.param(
            [pod(epoch=1, terminating=True, noticed=9.0), pod(epoch=2, started=False)],
            0.0,
            False,
            2,
            None,
            id="it-is-drained",
        ),
    ],
)
def test_a_coordinator_serves_until_its_successor_has_started(
    pods: list[PodView], silence: float, held: bool, serves: int | None, makes: int | None
) -> None:
    known = max(pod.epoch for pod in pods)  # the status knows an epoch before its pod is there
    plan = plan_coordinator(pods, known, True, silence, NOW, held=held)
    assert (plan.current.epoch if plan.current else None) == serves
    assert (plan.epoch if plan.wanted else None) == makes
    started = [pod for pod in pods if pod.epoch < known and not pod.ended]
    if serves == known and len(pods) > 1:
        assert list(plan.left) == started, "the earlier one goes"
