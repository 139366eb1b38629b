"""Workers that nobody hears: first another coordinator listens, then they are replaced."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from footplate_contracts.coordinator_state import CoordinatorState, MissedAgent, RunState, Verdict
from footplate_contracts.directives import GoneWorker
from footplate_contracts.names import WorkerId
from footplate_operator.trainingrun.gang import losses
from footplate_operator.trainingrun.gang.coordinator import plan_coordinator
from tests.unit.footplate_operator.test_unreachable import LONG_AGO, NOW, agent, pod

GATHERS = CoordinatorState(version=1, epoch=1, state=RunState.GATHERING, missing=[0])


def running(index: int = 0, **state: Any) -> Any:
    return pod(index, **({"ran_since": LONG_AGO} | state))


@pytest.mark.parametrize(
    ("waited", "lost"),
    [
        pytest.param(losses.MUTE_SECONDS, frozenset(), id="another-coordinator-is-to-listen"),
        pytest.param(losses.ALL_MUTE_SECONDS, frozenset({WorkerId(0, 0)}), id="it-heard-nobody-either"),
    ],
)
def test_workers_that_two_coordinators_do_not_hear_are_lost(waited: float, lost: frozenset[WorkerId]) -> None:
    assert losses.find_lost(GATHERS, [running()], NOW, losses.MUTE_SECONDS, waited) == lost


@pytest.mark.parametrize(
    ("state", "deaf"),
    [
        pytest.param(GATHERS, True, id="it-gathers"),
        pytest.param(CoordinatorState.empty(), False, id="it-does-not-answer"),
        pytest.param(GATHERS.model_copy(update={"waiting": [agent(0)]}), False, id="one-waits"),
        pytest.param(GATHERS.model_copy(update={"state": RunState.TRAINING}), False, id="it-trains"),
    ],
)
def test_a_coordinator_that_hears_nobody(state: CoordinatorState, deaf: bool) -> None:
    assert losses.has_no_contact(state, [running()], NOW) is deaf


def test_a_worker_that_has_just_started_is_not_missed_yet() -> None:
    young = replace(running(), ran_since=NOW - timedelta(seconds=5))
    assert not losses.has_no_contact(GATHERS, [young], NOW)


@pytest.mark.parametrize("deaf", [0, 1])
def test_a_coordinator_that_hears_nobody_has_a_successor(deaf: int) -> None:
    serving = replace(running(), role="coordinator", epoch=1)
    planned = plan_coordinator([serving], 1, True, 0.0, NOW, deaf=deaf)
    assert (planned.current is None, planned.epoch) == (bool(deaf), 1 + deaf)


@pytest.mark.parametrize(
    ("there", "told"),
    [
        pytest.param(
            running(phase="Failed", exit_code=137), [GoneWorker(index=0, incarnation=0, ended=True)],
            id="its-kubelet-said-so",
        ),
        pytest.param(running(), [], id="it-runs"),
        pytest.param(running(phase="Failed", disruption="DeletionByPodGC"), [], id="its-node-is-gone"),
    ],
)  # fmt: skip
def test_a_coordinator_is_told_that_the_containers_of_a_worker_have_ended(
    there: Any, told: list[GoneWorker]
) -> None:
    missed = MissedAgent(agent=agent(0), verdict=Verdict.SILENT, seconds=6.0)
    state = GATHERS.model_copy(update={"missed": [missed]})
    assert losses.find_gone(state, [there], NOW) == told
