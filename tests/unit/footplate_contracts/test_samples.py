"""Samples are bounded and fit for any terminal, log and database, and never cost a row."""

from __future__ import annotations

from typing import Any

import pytest

from footplate_contracts.reports import GenerationRow, TelemetryBatch, TelemetryItem
from footplate_contracts.samples import (
    ANSWER_CHARACTERS,
    BYTES,
    CUT,
    MOST,
    LoggedSample,
    SampleEnd,
    json_bytes,
    parse_samples,
    sanitize_text,
    truncate_samples,
)
from tests.support.samples import longest, shown
from tests.unit.footplate_elastic.coordinator.test_telemetry import G1, row


@pytest.mark.parametrize(
    ("text", "fit"),
    [
        pytest.param("a\n\tb  ä 漢 😀", "a\n\tb  ä 漢 😀", id="what-is-fit-stays"),
        pytest.param("a\r\nb\rc", "a\nb␍c", id="ends-of-lines"),
        pytest.param("\x1b[2J\x00\x7f", "␛[2J␀␡", id="what-a-terminal-obeys"),
        pytest.param("\x9b2J", "\ufffd2J", id="and-in-eight-bits"),
        pytest.param("a\ud800b", "a\ufffdb", id="half-a-character"),
        pytest.param("a\u202eb\u2066", "a\ufffdb\ufffd", id="what-turns-the-line"),
    ],
)
def test_a_text_is_fit_for_a_terminal_and_a_database(text: str, fit: str) -> None:
    assert sanitize_text(text, 100) == fit == sanitize_text(fit, 100)


@pytest.mark.parametrize("length", [39, 40, 41, 1000])
def test_of_a_long_text_begin_and_end_stay(length: int) -> None:
    text = "".join(chr(ord("a") + place % 26) for place in range(length))
    cut = sanitize_text(text, 40)
    assert cut == text if length <= 40 else (len(cut) == 40 and CUT in cut)
    assert (cut[:10], cut[-10:]) == (text[:10], text[-10:])
    assert sanitize_text(cut, 40) == cut


def test_a_step_shows_so_many_samples_in_so_many_bytes() -> None:
    many = [longest(prompt) for prompt in range(20)]
    found = truncate_samples(many)
    assert [sample.prompt for sample in found] == list(range(MOST))
    assert json_bytes(many[:MOST]) > BYTES >= json_bytes(found) > BYTES // 2
    assert truncate_samples(found) == found
    assert truncate_samples([shown(1), shown(2)]) == [shown(1), shown(2)]


def test_what_was_written_is_read() -> None:
    samples = [shown(1), longest(2), LoggedSample(prompt=3, prompt_text="", answer_text="x", tokens=0)]
    item = TelemetryItem(sequence=1, generation=G1, metrics=row(1), samples=truncate_samples(samples))
    text = item.model_dump_json(by_alias=True, exclude_none=True)
    assert TelemetryItem.model_validate_json(text) == item
    assert parse_samples([sample.to_json() for sample in samples]) == truncate_samples(samples)


def test_why_an_answer_ends_for_a_reason_that_is_new_is_not_said() -> None:
    assert LoggedSample.from_json({**shown(1).to_json(), "end": "timeout"}).end is None
    assert LoggedSample.from_json({**shown(1).to_json(), "end": "stop"}).end is SampleEnd.STOP


@pytest.mark.parametrize(
    "samples",
    [
        pytest.param(5, id="no-list"),
        pytest.param([{"prompt": 1}], id="no-texts"),
        pytest.param([{**shown(1).to_json(), "rewards": {"a b": 1.0}}], id="no-name"),
        pytest.param([{**shown(1).to_json(), "prompt": -1}], id="below-zero"),
        pytest.param([{**shown(1).to_json(), "prompt": 2**63}], id="beyond-any-column"),
        pytest.param([{**shown(1).to_json(), "promptText": None}], id="no-text"),
        pytest.param([shown(prompt).to_json() for prompt in range(MOST + 1)], id="too-many"),
    ],
)
def test_whatever_is_wrong_with_samples_the_row_is_taken(samples: Any) -> None:
    plain_row = {"generation": G1.to_json(), "metrics": row(1).to_json(), "samples": samples}
    batch = TelemetryBatch.from_json({"runUid": "u", "epoch": 1, "rows": [plain_row]})
    assert batch.rows == [GenerationRow(generation=G1, metrics=row(1))]
    assert parse_samples(samples) == []


def test_an_answer_has_room_for_what_is_shown_of_it() -> None:
    assert len(longest().answer_text) == ANSWER_CHARACTERS
