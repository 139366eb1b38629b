"""Generations are ordered by epoch first, then by number."""

from __future__ import annotations

from typing import Any, get_origin

import pytest
from annotated_types import MaxLen
from pydantic import ValidationError

from footplate_contracts.coordinator_state import CoordinatorState
from footplate_contracts.metrics import VALUES, StepMetrics
from footplate_contracts.rendezvous import AgentIdentity, Heartbeat
from footplate_contracts.reports import CheckpointRecord, GenerationId, TelemetryItem


@pytest.mark.parametrize(
    ("newer", "older"),
    [
        pytest.param("1.2", "1.1", id="number"),
        pytest.param("2.0", "1.9", id="epoch-wins"),
        pytest.param("1.10", "1.9", id="numbers-not-texts"),
    ],
)
def test_newer_than(newer: str, older: str) -> None:
    assert GenerationId.parse(newer).is_newer_than(GenerationId.parse(older))
    assert not GenerationId.parse(older).is_newer_than(GenerationId.parse(newer))


def test_a_generation_is_not_newer_than_itself() -> None:
    assert not GenerationId.parse("3.4").is_newer_than(GenerationId.parse("3.4"))


def test_text_and_back() -> None:
    assert str(GenerationId.parse("3.14")) == "3.14"


@pytest.mark.parametrize("text", ["", "1", "a.b", "1.-1", "1.2.3"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError):
        GenerationId.parse(text)


def test_sequences_start_at_one() -> None:
    with pytest.raises(ValidationError):
        TelemetryItem(sequence=0)


def test_every_list_of_a_coordinators_state_has_an_end() -> None:
    listed = {
        name: [bound.max_length for bound in field.metadata if isinstance(bound, MaxLen)]
        for name, field in CoordinatorState.model_fields.items()
        if get_origin(field.annotation) in (list, dict)
    }
    assert {"members", "missing", "missed", "waiting", "failures_by_cause", "energy"} <= listed.keys()
    assert [name for name, bounds in listed.items() if not bounds] == []


def test_of_many_wrong_entries_the_first_is_named() -> None:
    told = {"version": 1, "epoch": 1, "state": "training", "members": [{}] * 1000}
    with pytest.raises(ValidationError) as refused:
        CoordinatorState.model_validate(told)
    assert {wrong["loc"][:2] for wrong in refused.value.errors()} == {("members", 0)}


ROW = {
    "step": 2,
    "time": 1.0,
    "loss": 1.0,
    "gradientNorm": 1.0,
    "learningRate": 0.1,
    "tokens": 1,
    "tokensPerSecond": 1.0,
    "sampleDigest": "0" * 16,
}
RECORD = {"step": 1, "uri": "/c/step-1.e1g1", "time": 1.0}
AGENT = {"index": 0, "incarnation": 0, "podName": "run-w0-0", "address": "10.0.0.1", "slots": 2}


@pytest.mark.parametrize(
    ("kind", "plain", "field", "longest"),
    [
        pytest.param(CheckpointRecord, RECORD, "uri", 1088, id="uri"),
        pytest.param(StepMetrics, ROW, "sampleDigest", 64, id="digest"),
        pytest.param(AgentIdentity, AGENT, "podName", 253, id="pod"),
        pytest.param(AgentIdentity, AGENT, "podUid", 64, id="uid"),
        pytest.param(AgentIdentity, AGENT, "nodeName", 253, id="node"),
        pytest.param(AgentIdentity, AGENT, "address", 253, id="address"),
    ],
)
def test_texts_have_a_length(kind: Any, plain: dict[str, Any], field: str, longest: int) -> None:
    kind.from_json({**plain, field: "x" * longest})
    with pytest.raises(ValidationError, match=f"at most {longest} characters"):
        kind.from_json({**plain, field: "x" * (longest + 1)})


@pytest.mark.parametrize(
    "values",
    [
        pytest.param({f"n{number}": 1.0 for number in range(VALUES + 1)}, id="many"),
        pytest.param({"x" * 64: 1.0}, id="long-name"),
    ],
)
def test_further_numbers_have_bounds(values: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        StepMetrics.from_json({**ROW, "values": values})


@pytest.mark.parametrize(
    "odd",
    [
        pytest.param({"checkpoint": {**RECORD, "uri": "x" * 5000}}, id="checkpoint"),
        pytest.param({"metrics": {**ROW, "sampleDigest": "0" * 5000}}, id="row"),
        pytest.param({"removal": {"step": "first"}}, id="removal"),
    ],
)
def test_an_entry_that_cannot_be_read_holds_no_other_back(odd: dict[str, Any]) -> None:
    outbox = [{"sequence": 1, **odd}, {"sequence": 2, "metrics": ROW}]
    word = Heartbeat.from_json({"agent": AGENT, "outbox": outbox})
    assert [(item.sequence, item.is_unreadable) for item in word.outbox] == [(1, True), (2, False)]


def test_a_name_that_is_no_column_is_refused_of_whoever_measures_and_passed_over_by_whoever_reads() -> None:
    row = StepMetrics(
        step=1,
        time=0.0,
        loss=1.0,
        gradient_norm=1.0,
        learning_rate=1.0,
        tokens=1,
        tokens_per_second=1.0,
        sample_digest="",
    )
    assert StepMetrics.from_json({**row.to_json(), "dreamingSeconds": 1.0}) == row
    measured = row.model_dump(exclude_none=True)
    assert StepMetrics.of_columns(**measured) == row
    with pytest.raises(ValidationError, match="dreaming_seconds"):
        StepMetrics.of_columns(**measured, dreaming_seconds=1.0)
