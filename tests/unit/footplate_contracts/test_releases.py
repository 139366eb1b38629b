"""What one release writes, another reads: it passes over what is new to it, and refuses nothing for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import pytest
from pydantic import TypeAdapter, ValidationError

from footplate_contracts.base import IF_READABLE, WireMessage
from footplate_contracts.coordinator_state import CoordinatorState
from footplate_contracts.diagnosis import DiagnosisRequest
from footplate_contracts.names import Cause, Phase
from footplate_contracts.rendezvous import HeartbeatResponse
from footplate_contracts.runconfig import RunConfig, RunIdentity, World, resolve
from footplate_contracts.v1alpha1.status import TrainingRunStatus
from footplate_contracts.v1alpha1.trainingrun import TrainingRunSpec
from tests.support.contracts import UNHEARD_OF, enums_of, extended
from tests.support.nonempty import nonempty

NOON = "2026-01-31T12:00:00Z"
STATUS: dict[str, Any] = {
    "phase": "Running",
    "observedGeneration": 3,
    "conditions": [
        {"type": "Ready", "status": "True", "lastTransitionTime": NOON, "reason": "Training", "message": ""}
    ],
    "progress": {"step": 40, "totalSteps": 100, "tokens": 40960, "loss": 2.5, "percentage": 40.0},
    "data": {"digest": "0123456789abcdef"},
    "world": {"nodes": 2, "ranks": 4, "generation": "1.2"},
    "checkpoint": {"latestStep": 30, "uri": "/c/step-30", "lastCommittedTime": NOON, "durable": True},
    "lineage": [
        {"field": "initFrom", "run": "base", "uid": "uid-of-base", "step": 7, "uri": "/b/step-7.e1g1"}
    ],
    "followers": [{"name": "next", "uid": "uid-of-next", "steps": [20]}],
    "attempts": [
        {
            "number": 1,
            "start": NOON,
            "end": NOON,
            "cause": "Hang",
            "reason": "ProgressDeadlineExceeded",
            "endStep": 30,
        },
        {"number": 2, "start": NOON, "startStep": 30},
    ],
    "failures": {"Hang": 1},
    "restarts": 1,
    "coordinator": {"podName": "tiny-c1", "podUID": "uid-of-c1", "address": "10.0.0.1", "epoch": 1},
    "gathering": {"since": NOON, "turnTime": NOON, "releasedTime": None, "lostTurns": 1},
    "nodes": [{"name": "node-1", "strikes": 1, "message": ""}],
    "wallSeconds": {"queued": 1.0, "productive": 60.0},
    "goodput": 0.9,
    "telemetry": {"refused": 1, "overflowed": 2},
    "cost": {"dollars": 1.5, "method": "measured"},
    "revision": "tiny-1",
    "replicas": 2,
    "selector": "footplate.dev/run=tiny",
    "startTime": NOON,
    "completionTime": None,
    "lastTransitionTime": NOON,
    "writtenBy": "9.0.0",
    "internal": {
        "incarnation": 2,
        "failuresSeen": "1.1",
        "failuresSeenByCause": {"Hang": 1},
        "recentFailures": [{"hour": NOON, "checkpointStep": 20, "failures": {"Hang": 1}}],
        "telemetrySeen": "1.1.2",
        "phaseUnobservedSeconds": 0.5,
    },
}
SPEC: dict[str, Any] = {
    "model": {"layers": 1, "hiddenSize": 8, "attentionHeads": 2, "vocabularySize": 8, "contextLength": 8},
    "data": {"uri": "/d"},
    "training": {"steps": 1, "globalBatchSize": 1, "optimizer": {"learningRate": 1.0}},
    "compute": {"profile": "p"},
    "checkpoint": {"uri": "/c"},
}


def test_a_status_with_more_in_each_of_its_records_is_read_as_if_it_were_not_there() -> None:
    assert set(STATUS) == {field.alias for field in TrainingRunStatus.model_fields.values()}
    read = TrainingRunStatus.from_any_release(extended(TrainingRunStatus, STATUS))
    assert read == TrainingRunStatus.from_json(STATUS)


def test_a_status_with_new_words_in_each_closed_set_is_read() -> None:
    read = TrainingRunStatus.from_any_release(extended(TrainingRunStatus, STATUS, enums=True))
    known = TrainingRunStatus.from_json(STATUS)
    ended = known.attempts[0].model_copy(update={"cause": UNHEARD_OF})
    assert read == known.model_copy(update={"attempts": [ended, known.attempts[1]]})


def test_a_cause_that_is_not_known_is_written_as_it_was_read_and_is_none_of_those_that_are() -> None:
    attempt = {"number": 1, "start": NOON, "cause": UNHEARD_OF}
    read = TrainingRunStatus.from_any_release({"attempts": [attempt]})
    cause = read.attempts[0].cause
    assert isinstance(cause, Cause) and cause not in frozenset(Cause)
    assert read.to_json()["attempts"][0]["cause"] == UNHEARD_OF


@pytest.mark.parametrize(
    ("status", "phase"),
    [
        pytest.param({}, None, id="not-admitted"),
        pytest.param({"revision": "tiny-1"}, Phase.RUNNING, id="admitted"),
        pytest.param({"revision": "tiny-1", "completionTime": NOON}, Phase.FAILED, id="ended"),
        pytest.param(
            {
                "completionTime": NOON,
                "conditions": [
                    {"type": "Complete", "status": "True", "lastTransitionTime": NOON, "reason": "Finished"}
                ],
            },
            Phase.SUCCEEDED,
            id="succeeded",
        ),
    ],
)
def test_a_phase_that_is_not_known_is_read_as_the_nearest(status: Any, phase: Phase | None) -> None:
    assert TrainingRunStatus.from_any_release({**status, "phase": UNHEARD_OF}).phase is phase


def test_a_run_config_with_more_in_each_of_its_records_is_read_and_what_is_passed_over_is_named() -> None:
    config = resolve(TrainingRunSpec.from_json(SPEC), RunIdentity(name="tiny"), World())
    longer = extended(RunConfig, config.to_json())
    assert RunConfig.from_any_release(longer) == config
    assert {"sunSpots", "training.sunSpots", "training.optimizer.sunSpots"} <= set(
        RunConfig.unknown_fields(longer)
    )
    assert RunConfig.unknown_fields(config.to_json()) == []


@pytest.mark.parametrize("place", ["", "training", "checkpoint"])
def test_a_spec_stays_strict(place: str) -> None:
    part = {**(SPEC[place] if place else {}), "sunSpots": 7}
    with pytest.raises(ValidationError, match="sunSpots"):
        TrainingRunSpec.from_json({**SPEC, place: part} if place else {**SPEC, **part})


def all_reports(base: type[WireMessage] = WireMessage) -> Iterator[type[WireMessage]]:
    """Every message between programs, and whatever is part of one."""
    for report in base.__subclasses__():
        if report.__module__.startswith("footplate_contracts."):
            yield report
        yield from all_reports(report)


def test_reports_pass_over_new_members() -> None:
    reports = set(nonempty(all_reports()))
    assert {CoordinatorState, HeartbeatResponse} <= reports
    assert {report.__name__ for report in reports if report.model_config["extra"] != "ignore"} == set()


# What a person asks for, and nobody here could make, is refused; answers that carry it leave it out.
REFUSED = {("DiagnosisRequest", "kind"), ("Diagnosis", "kind")}


@pytest.mark.parametrize(
    ("report", "name"),
    [
        pytest.param(report, name, id=f"{report.__name__}-{name}")
        for report in all_reports()
        for name, field in report.model_fields.items()
        if any(enums_of(field.annotation)) and (report.__name__, name) not in REFUSED
    ],
)
def test_reports_are_read_with_new_words_in_closed_sets(report: type[WireMessage], name: str) -> None:
    field = report.model_fields[name]
    read = TypeAdapter(Annotated[(field.annotation, *field.metadata)]).validate_python(UNHEARD_OF)
    left_out = IF_READABLE in field.metadata
    assert read is None if left_out else type(read) in set(enums_of(field.annotation))


def test_an_agent_passes_over_a_diagnosis_of_a_kind_that_it_cannot_make() -> None:
    answer = {"epoch": 1, "diagnosis": {"kind": UNHEARD_OF, "number": 3}}
    assert HeartbeatResponse.from_json(answer).diagnosis is None
    with pytest.raises(ValidationError, match="kind"):
        DiagnosisRequest.from_json({"kind": UNHEARD_OF})
