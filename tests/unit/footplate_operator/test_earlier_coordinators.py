"""Directives with a coordinator of an earlier release, which passes over what it does not know."""

from __future__ import annotations

from typing import Any

import pytest

from footplate_contracts.coordinator_state import CoordinatorState, RunState
from footplate_contracts.directives import LATER, Directives
from footplate_operator.trainingrun.directives import directives, in_force_at_once, length_refusal, untold
from footplate_operator.trainingrun.run import decode
from tests.support.operator_fakes import run_manifest

MARKED = {"checkpoint": {"uri": "/shared/checkpoints", "promoted": [{"name": "a", "step": 7}]}}
SLOW = {"resilience": {"hang": {"rolloutSeconds": 7200, "scoringSeconds": 7200}}}


def wanted(**spec: Any) -> Directives:
    body = run_manifest(**spec)
    body["metadata"] |= {"uid": "uid-1", "creationTimestamp": "2026-01-01T00:00:00Z"}
    return directives(decode(body))


def heard(told: Directives, **more: Any) -> CoordinatorState:
    """What a coordinator says that was told so, as one of an earlier release reads it, unless it `knows`."""
    plain = told.to_json()
    for part in set(LATER.values()) - set(more.get("knows", ())):
        section, name = part.split(".")
        fields = type(getattr(told, section)).model_fields
        assert name in fields
        camel = "".join([name.split("_")[0], *(word.title() for word in name.split("_")[1:])])
        plain.get(section, {}).pop(camel, None)
    said = Directives.from_json(plain)
    return CoordinatorState(version=1, epoch=1, state=RunState.TRAINING, directives=said, **more)


@pytest.mark.parametrize("spec", [MARKED, SLOW], ids=["marks", "bounds"])
def test_it_is_not_told_again_and_again(spec: dict[str, Any]) -> None:
    told = wanted(**spec)
    assert untold(told, heard(told)) is None
    assert untold(told, heard(told, knows=list(LATER.values()))) is None
    assert (
        untold(wanted(training={**run_manifest()["spec"]["training"], "steps": 9}), heard(told)) is not None
    )


def test_it_is_not_told_again_and_again_of_domains() -> None:
    told = wanted().model_copy(update={"domains": {"node-1": "rack-a"}})
    deaf = heard(told.model_copy(update={"domains": None}))
    assert untold(told, deaf) is None
    assert untold(told, deaf.model_copy(update={"knows": ["domains"]})) is not None


def test_what_it_does_not_know_waits_for_a_resumption() -> None:
    told = wanted(**MARKED)
    earlier, own = heard(told), heard(told, knows=list(LATER.values()))
    assert in_force_at_once(own) - in_force_at_once(earlier) == set(LATER)
    assert set(LATER) <= in_force_at_once(CoordinatorState.silent())


def test_what_it_refuses_is_still_told() -> None:
    told = wanted(**MARKED)
    state = heard(told, refusals={"limits": "step 9 is trained already"})
    assert length_refusal(told, state) == "step 9 is trained already"
