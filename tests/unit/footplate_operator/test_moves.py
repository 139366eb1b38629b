"""When pods leave nodes that are about to end, and which coordinator serves meanwhile."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from footplate_operator.trainingrun.gang import moves
from footplate_operator.trainingrun.gang.coordinator import plan_coordinator
from footplate_operator.trainingrun.gang.moves import SETTLE_SECONDS
from footplate_operator.trainingrun.observed import PodView

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
    assert moves.due([late, early, stays], NOW) == moves.Moves((late, early))
    assert moves.due([late, stays], NOW) == moves.Moves(wait=SETTLE_SECONDS - 0.5)
    assert moves.due([stays], NOW) == moves.Moves()


@pytest.mark.parametrize("gone", [{"terminating": True}, {"phase": "Succeeded"}], ids=["leaving", "ended"])
def test_who_leaves_already_is_not_told_twice(gone: dict[str, object]) -> None:
    assert moves.due([pod(0, noticed=60.0, **gone)], NOW) == moves.Moves()


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
