"""Sums that only grow: the newest is enough, in whatever order words come."""

from __future__ import annotations

import json
from itertools import permutations
from typing import Any

import pytest
from pydantic import ValidationError

from footplate_contracts.coordinator_state import CoordinatorState, RunState
from footplate_contracts.energy import MOST_PODS, PodEnergy
from footplate_contracts.rendezvous import AgentIdentity, Heartbeat, LeaveRequest
from footplate_contracts.v1alpha1.types import MOST_WHOLE

AGENT = AgentIdentity(index=0, incarnation=0, pod_name="w0", address="10.0.0.1", local_world_size=8)
FIRST = PodEnergy(pod_uid="a", millijoules=5, counter_seconds=80, power_seconds=0)
SECOND = PodEnergy(pod_uid="a", millijoules=5, counter_seconds=80, power_seconds=10)  # at no power
THIRD = PodEnergy(pod_uid="a", millijoules=9, counter_seconds=160, power_seconds=10)


@pytest.mark.parametrize("words", list(permutations([FIRST, SECOND, THIRD])))
def test_the_newest_is_what_is_known_in_whatever_order_words_come(words: tuple[PodEnergy, ...]) -> None:
    known = words[0]
    for word in words:
        known = known.merge(word)
    assert known == THIRD


@pytest.mark.parametrize(
    ("field", "value"), [("podUid", ""), ("millijoules", -1), ("counterSeconds", -1), ("powerSeconds", 0.5)]
)
def test_what_cannot_be_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(ValidationError, match=field):
        PodEnergy.from_json({**FIRST.to_json(), field: value})


def test_a_state_tells_no_more_pods_than_any_gang_has() -> None:
    state = {"version": 1, "epoch": 1, "state": RunState.TRAINING}
    assert CoordinatorState.from_json(state).energy == [], "an earlier coordinator tells of none"
    pods = [FIRST.to_json()] * MOST_PODS
    assert len(CoordinatorState.from_json({**state, "energy": pods}).energy) == MOST_PODS
    with pytest.raises(ValidationError, match="energy"):
        CoordinatorState.from_json({**state, "energy": [*pods, pods[0]]})


def test_an_earlier_coordinator_reads_who_leaves_and_a_later_one_hears_it_of_an_earlier_agent() -> None:
    farewell = LeaveRequest(**AGENT.model_dump(), energy=FIRST)
    assert AgentIdentity.from_json(farewell.to_json()) == AGENT
    assert LeaveRequest.from_json(AGENT.to_json()).energy is None


def test_an_agent_that_measures_nothing_says_nothing_of_energy() -> None:
    assert "energy" not in Heartbeat(agent=AGENT).to_json()


WILD = {**FIRST.to_json(), "podUid": "b", "millijoules": MOST_WHOLE + 1}


def test_sums_that_no_record_can_hold_are_refused_and_hide_nothing_else() -> None:
    with pytest.raises(ValidationError, match=r"millijoules[^$]*less than or equal to 1000000000000000"):
        PodEnergy.from_json(WILD)
    state = {"version": 1, "epoch": 1, "state": "training", "energy": [WILD, FIRST.to_json()]}
    refused: list[str] = []
    read = CoordinatorState.model_validate_json(json.dumps(state), context=refused)
    assert read.energy == [FIRST]
    assert refused == [
        f"millijoules: Input should be less than or equal to {MOST_WHOLE}, not '{MOST_WHOLE + 1}'"
    ]
    for word in (Heartbeat, LeaveRequest):
        about = AGENT.to_json() if word is LeaveRequest else {"agent": AGENT.to_json()}
        assert word.from_json({**about, "energy": FIRST.to_json()}).energy == FIRST
        assert word.from_json({**about, "energy": WILD}).energy is None
