"""A live setting is one field, one line that derives it and one that hands it on; here they are counted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from footplate_contracts.directives import (
    FIRST_RELEASE,
    Command,
    Directives,
    GoneWorker,
    HangTimeouts,
    Limits,
    Since,
)
from footplate_contracts.v1alpha1.resilience import Hang
from footplate_elastic.coordinator.core import Coordinator
from footplate_elastic.coordinator.state import new_membership
from footplate_elastic.coordinator.telemetry import TelemetryBuffer
from footplate_elastic.coordinator.timing import Timing
from footplate_operator.trainingrun.directives import SPEC_FIELDS, directives
from footplate_operator.trainingrun.run import decode
from tests.support.operator_fakes import run_manifest
from tests.unit.footplate_elastic.coordinator.story import any_size

ELASTICITY = Path(__file__).parents[3] / "docs" / "elasticity.md"
TOLD = Directives(
    nodes=2,
    hang=HangTimeouts(factor=3.0, floor_seconds=60.0),
    limits=Limits(steps=100, every_steps=10, keep_last=3),
)
# For each directive another value, and what in the coordinator shows that it is in force.
CHANGES: dict[str, tuple[Any, Callable[[Coordinator], object]]] = {
    "nodes": (3, lambda run: run.state.nodes),
    "min_nodes": (1, lambda run: run.state.legal),
    "hang": (HangTimeouts(factor=2.0, floor_seconds=600.0), lambda run: run.watchdog.bounds),
    "limits": (Limits(steps=200, every_steps=5, keep_last=1), lambda run: run.state.limits),
    "command": (Command.CHECKPOINT_AND_EXIT, lambda run: run.state.command),
    "gone": ([GoneWorker(index=1, incarnation=0)], lambda run: run.state.gone),
    "domains": ({"node-1": "rack-a"}, lambda run: run.state.rank_order.domains),
}
# For each directive an edit of the spec that changes it; the command is what a phase asks for.
EDITS: dict[str, dict[str, Any]] = {
    "nodes": {"compute": {"profile": "local-cpu", "nodes": 3}},
    "min_nodes": {"compute": {"profile": "local-cpu", "nodes": 2, "minNodes": 1}},
    "hang": {"resilience": {"hang": {"factor": 2.0, "floorSeconds": 600}}},
    "limits": {"checkpoint": {"uri": "/shared/checkpoints", "everySteps": 5}},
    "command": {},
}
# Edits of the spec that change a part of it.
CHECKPOINT = run_manifest()["spec"]["checkpoint"]
PARTS: dict[tuple[str, str], dict[str, Any]] = {
    ("hang", "factor"): {"resilience": {"hang": {"factor": 2.0}}},
    ("hang", "floor_seconds"): {"resilience": {"hang": {"floorSeconds": 600}}},
    ("hang", "loading_seconds"): {"resilience": {"hang": {"loadingSeconds": 600}}},
    ("hang", "first_step_seconds"): {"resilience": {"hang": {"firstStepSeconds": 600}}},
    ("hang", "checkpoint_seconds"): {"resilience": {"hang": {"checkpointSeconds": 600}}},
    ("hang", "validation_seconds"): {"resilience": {"hang": {"validationSeconds": 600}}},
    ("hang", "rollout_seconds"): {"resilience": {"hang": {"rolloutSeconds": 600}}},
    ("hang", "scoring_seconds"): {"resilience": {"hang": {"scoringSeconds": 600}}},
    ("limits", "steps"): {"training": {**run_manifest()["spec"]["training"], "steps": 200}},
    ("limits", "every_steps"): {"checkpoint": {**CHECKPOINT, "everySteps": 5}},
    ("limits", "keep_last"): {"checkpoint": {**CHECKPOINT, "keepLast": 7}},
    ("limits", "keep_every_steps"): {"checkpoint": {**CHECKPOINT, "keepEverySteps": 100}},
    ("limits", "kept_steps"): {"checkpoint": {**CHECKPOINT, "promoted": [{"name": "a", "step": 7}]}},
}
# Coordinators of the first release act on these; any later one has a later release in its `Since`.
FIRST: dict[type[BaseModel], set[str]] = {
    Directives: {"nodes", "min_nodes", "hang", "limits", "command", "gone", "domains"},
    HangTimeouts: {
        *("factor", "floor_seconds", "loading_seconds", "first_step_seconds"),
        *("checkpoint_seconds", "validation_seconds", "rollout_seconds", "scoring_seconds"),
    },
    Limits: {"steps", "every_steps", "keep_last", "keep_every_steps", "kept_steps"},
}
EVERY = pytest.mark.parametrize("directive", Directives.model_fields)
# What Kubernetes says is no field of a spec.
SAID = pytest.mark.parametrize("directive", sorted(Directives.model_fields.keys() - {"gone", "domains"}))


def told(**spec: Any) -> Directives:
    body = run_manifest(**spec)
    body["metadata"] |= {"uid": "uid-1", "creationTimestamp": "2026-01-01T00:00:00Z"}
    command = Command.NONE if spec else Command.CHECKPOINT_AND_EXIT
    return directives(decode(body), command)


def coordinator() -> Coordinator:
    membership = new_membership(1, 2, 2, 0.0, Timing())
    return Coordinator(membership, TelemetryBuffer(keep=False), lambda: 0.0, any_size, TOLD)


@SAID
def test_the_operator_derives_it(directive: str) -> None:
    before, after = told(suspend=False), told(**EDITS[directive])
    changed = {name for name in Directives.model_fields if getattr(before, name) != getattr(after, name)}
    assert directive in changed and changed <= {directive, "command"}


@EVERY
def test_the_coordinator_hands_it_on_and_says_so(directive: str) -> None:
    run, (value, look) = coordinator(), CHANGES[directive]
    run.set_directives(TOLD, 0.0)
    before, version = look(run), run.version
    run.set_directives(TOLD.model_copy(update={directive: value}), 0.0)
    assert look(run) != before and run.version > version
    assert run.view().directives == TOLD.model_copy(update={directive: value})


@pytest.mark.parametrize(
    ("directive", "name"),
    [
        *(("hang", name) for name in HangTimeouts.model_fields),
        *(("limits", name) for name in Limits.model_fields),
    ],
)
def test_no_part_of_it_is_passed_over(directive: str, name: str) -> None:
    run, (_, look) = coordinator(), CHANGES[directive]
    run.set_directives(TOLD, 0.0)
    before, part = look(run), getattr(TOLD, directive)
    value: Any = [7] if name == "kept_steps" else 7
    run.set_directives(TOLD.model_copy(update={directive: part.model_copy(update={name: value})}), 0.0)
    assert look(run) != before
    wanted, usual = told(**PARTS[directive, name]), told(suspend=False)
    assert getattr(getattr(wanted, directive), name) != getattr(getattr(usual, directive), name)


def test_each_edit_changes_a_part_that_there_is() -> None:
    parts: dict[str, type[BaseModel]] = {"hang": HangTimeouts, "limits": Limits}
    assert PARTS.keys() == {(section, name) for section, part in parts.items() for name in part.model_fields}
    assert CHANGES.keys() == Directives.model_fields.keys() >= EDITS.keys()


@pytest.mark.parametrize("part", FIRST)
def test_a_field_that_came_later_states_a_later_release(part: type[BaseModel]) -> None:
    since = {
        name: metadata.release
        for name, field in part.model_fields.items()
        for metadata in field.metadata
        if isinstance(metadata, Since)
    }
    assert {name for name, release in since.items() if release == FIRST_RELEASE} == FIRST[part]
    assert all(tuple(map(int, release.split("."))) >= (0, 1, 0) for release in since.values())


@SAID
def test_the_documentation_names_the_fields_of_the_spec_that_say_it(directive: str) -> None:
    page = ELASTICITY.read_text()
    assert SPEC_FIELDS[directive]
    assert [path for path in SPEC_FIELDS[directive] if f"`{path}`" not in page] == []


def test_the_same_directives_again_are_no_news() -> None:
    run = coordinator()
    run.set_directives(TOLD, 0.0)
    version = run.version
    run.set_directives(TOLD, 1.0)
    assert run.version == version


def test_of_a_newer_operator_what_is_known_here_holds() -> None:
    assert Directives.from_json({**TOLD.to_json(), "learningRate": 1, "hang": None}).limits == TOLD.limits


@pytest.mark.parametrize(
    ("part", "first"),
    [
        pytest.param(Limits, {"steps", "every_steps", "keep_last"}, id="limits"),
        pytest.param(HangTimeouts, {"factor", "floor_seconds"}, id="hang"),
    ],
)
def test_what_came_later_is_optional(part: type[BaseModel], first: set[str]) -> None:
    """The operator, or the RunConfig, of an earlier release does not say it."""
    assert {name for name, field in part.model_fields.items() if field.is_required()} == first


@pytest.mark.parametrize(
    ("said", "rollout", "scoring"),
    [
        pytest.param({}, 1800, 3600, id="absent"),
        pytest.param({"rolloutSeconds": 60}, 60, 3600, id="one"),
        pytest.param({"rolloutSeconds": 60, "scoringSeconds": 90}, 60, 90, id="both"),
    ],
)
def test_bounds_that_no_spec_need_say_are_filled_in_where_they_count(
    said: dict[str, int], rollout: float, scoring: float
) -> None:
    hang = told(resilience={"hang": said}).hang
    assert hang is not None
    assert (
        hang.to_json().keys() - HangTimeouts(factor=3.0, floor_seconds=60.0).to_json().keys() == said.keys()
    )
    assert (hang.seconds("rollout_seconds"), hang.seconds("scoring_seconds")) == (rollout, scoring)


def test_bounds_that_an_operator_does_not_know_are_as_usual() -> None:
    assert HangTimeouts.from_json({"factor": 3.0, "floorSeconds": 60}) == HangTimeouts.from_json(
        Hang().to_json()
    )
