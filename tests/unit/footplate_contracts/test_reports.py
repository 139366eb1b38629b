"""Generations are ordered by epoch first, then by number."""

from __future__ import annotations

from typing import get_origin

import pytest
from annotated_types import MaxLen
from pydantic import ValidationError

from footplate_contracts.reports import CoordinatorState, GenerationId, TelemetryItem


@pytest.mark.parametrize(
    ("newer", "older"),
    [
        pytest.param("1.2", "1.1", id="number"),
        pytest.param("2.0", "1.9", id="epoch-wins"),
        pytest.param("1.10", "1.9", id="numbers-not-texts"),
    ],
)
def test_newer_than(newer: str, older: str) -> None:
    assert GenerationId.parse(newer).newer_than(GenerationId.parse(older))
    assert not GenerationId.parse(older).newer_than(GenerationId.parse(newer))


def test_a_generation_is_not_newer_than_itself() -> None:
    assert not GenerationId.parse("3.4").newer_than(GenerationId.parse("3.4"))


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
