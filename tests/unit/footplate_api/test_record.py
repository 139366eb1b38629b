"""TrainingRuns become rows, however incomplete or strange their status."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from footplate_api.registry.run_rows import row

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
METADATA = {
    "uid": "u",
    "namespace": "research",
    "name": "gpt",
    "resourceVersion": "42",
    "generation": 3,
    "creationTimestamp": "2026-11-25T10:00:00Z",
    "labels": {"a": "b"},
}


def test_everything_that_is_there_is_kept() -> None:
    progress = {"step": 7, "totalSteps": 100, "tokens": 56, "loss": 2}
    manifest = {
        "metadata": METADATA,
        "spec": {"stage": "pretrain"},
        "status": {"phase": "Running", "progress": progress},
    }
    assert row(manifest, NOW) == {
        "uid": "u",
        "namespace": "research",
        "name": "gpt",
        "resource_version": 42,
        "generation": 3,
        "created_at": datetime(2026, 11, 25, 10, tzinfo=UTC),
        "stage": "pretrain",
        "phase": "Running",
        "step": 7,
        "total_steps": 100,
        "tokens": 56,
        "loss": 2.0,
        "deleted_at": None,
        "ended_at": None,
        "end_estimated": False,
        "seen_at": NOW,
        "labels": {"a": "b"},
        "annotations": {},
        "spec": {"stage": "pretrain"},
        "digest": row(manifest, NOW)["digest"],
        "status": {"phase": "Running", "progress": progress},
    }


@pytest.mark.parametrize(
    ("change", "changes"),
    [
        pytest.param({"spec": {"stage": "sft"}}, True, id="spec"),
        pytest.param({"metadata": {**METADATA, "labels": {}}}, True, id="labels"),
        pytest.param({"metadata": {**METADATA, "annotations": {"a": "b"}}}, True, id="annotations"),
        pytest.param({"metadata": {**METADATA, "resourceVersion": "43"}}, False, id="version"),
        pytest.param({"status": {"phase": "Failed"}}, False, id="status"),
    ],
)
def test_the_digest_is_of_what_was_asked_for(change: dict[str, Any], changes: bool) -> None:
    manifest = {"metadata": METADATA, "spec": {"stage": "pretrain"}, "status": {"phase": "Running"}}
    assert (row(manifest, NOW)["digest"] != row({**manifest, **change}, NOW)["digest"]) is changes


@pytest.mark.parametrize(
    "status",
    [
        pytest.param({}, id="empty"),
        pytest.param(None, id="null"),
        pytest.param([], id="a-list"),
        pytest.param({"phase": 3, "progress": "much"}, id="other-types"),
        pytest.param({"progress": {"step": "7", "tokens": 2**64, "loss": "NaN"}}, id="other-numbers"),
        pytest.param({"progress": {"tokens": -(2**64), "loss": 10**400}}, id="numbers-beyond-any-column"),
    ],
)
def test_a_strange_status_is_as_good_as_none(status: Any) -> None:
    made = row({"metadata": METADATA, "status": status}, NOW)
    assert (made["phase"], made["step"], made["tokens"], made["loss"]) == (None, 0, 0, None)


@pytest.mark.parametrize(
    "manifest",
    [
        pytest.param({}, id="no-metadata"),
        pytest.param({"metadata": []}, id="metadata-is-a-list"),
        pytest.param({"metadata": {**METADATA, "resourceVersion": "x"}}, id="version-is-no-number"),
        pytest.param({"metadata": {**METADATA, "creationTimestamp": "then"}}, id="time-is-no-time"),
        pytest.param({"metadata": {"name": "gpt"}}, id="no-uid"),
    ],
)
def test_what_no_api_server_sends_is_refused(manifest: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="not a TrainingRun"):
        row(manifest, NOW)
