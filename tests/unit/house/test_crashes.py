"""How ranks, agents, pods and nodes end in the field, and whether each end is told for what it was.

The rows are data under tests/golden/crashes, most of them from public threads. `pytest -s` prints the rate.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from footplate_contracts.failures import (
    MESSAGE_LIMIT,
    OUTCOMES,
    FailureReport,
    outcome_of_text,
    truncate_message,
)
from footplate_contracts.names import Cause, ExitCode, Reason
from footplate_elastic.agent.failures import classify
from footplate_elastic.agent.zygote_client import ProcessExit
from footplate_operator.trainingrun.history import History
from footplate_operator.trainingrun.observation import LostWorker, view_pod
from footplate_operator.trainingrun.policies.diagnosis import diagnose
from footplate_operator.trainingrun.policies.failure import RunFailure
from footplate_operator.trainingrun.status.attempts import interrupt
from footplate_operator.trainingrun.status.failures import from_lost
from tests.support.fake_cluster import Clock

Row = dict[str, Any]
FOLDER: Final = Path(__file__).parents[2] / "golden/crashes"
PAGE: Final = Path(__file__).parents[3] / "docs/operations/hardware-errors.md"
HISTORY: Final = History(now=Clock()(), created=Clock()(), nodes=2)
OF_RANKS: Final = ("ranks", "hardware")
KINDS: Final = (*OF_RANKS, "agents", "pods", "nodes")

# What is told for another thing than it was, and why it stays so.
MISSES: Final = {
    "ranks/cublas-not-initialized-for-memory": "the same text comes of labels out of range, which is a bug",
    "ranks/launch-failure-of-a-broken-gpu": "a kernel's bug says the same, and nothing else was said",
    "ranks/nccl-shared-memory-forbidden": "/dev/shm may not be written to; NCCL says the same of a full one",
}


def rows(kind: str) -> list[Row]:
    found: list[Row] = yaml.safe_load((FOLDER / f"{kind}.yaml").read_text())
    return found


CRASHES: Final = [(kind, row) for kind in KINDS for row in rows(kind)]


def told(kind: str, row: Row) -> tuple[object, object]:
    """Cause and reason as our classifiers tell them; of a pod that is held up reason and seconds left."""
    if kind in OF_RANKS:
        report = report_of(row)
        return report.cause.value, report.reason
    pod = view_pod(_pod(row))
    if "held" in row:
        diagnosis = diagnose(pod)
        return (diagnosis.reason.value, diagnosis.seconds_left) if diagnosis else (None, None)
    failure = from_lost(LostWorker(0, pod), None, Clock()())
    return failure.report.cause.value, failure.report.reason


def report_of(row: Row) -> FailureReport:
    """What the agent of a rank reports."""
    report = classify(0, ProcessExit(row["code"], 1.0), None, row.get("tail", ""), row.get("memory", False))
    assert report is not None
    return report


def _pod(row: Row) -> Row:
    metadata = {"name": "tiny-w0-0", "uid": "u", "creationTimestamp": "2026-01-31T11:00:00Z"}
    if row.get("deleted"):
        metadata["deletionTimestamp"] = "2026-01-31T12:00:00Z"
    ended = {
        "exitCode": row.get("code"),
        "reason": row.get("said", "Error"),
        "message": row.get("message", ""),
    }
    of_agent = {"phase": "Failed", "containerStatuses": [{"state": {"terminated": ended}}]}
    return {"metadata": metadata, "spec": {}, "status": row.get("status", of_agent)}


def labelled(row: Row) -> tuple[object, object]:
    held = row.get("held")
    return (held["reason"], held["seconds"]) if held else (row["cause"], row["reason"])


@pytest.mark.parametrize(
    ("kind", "row"), [pytest.param(kind, row, id=f"{kind}/{row['name']}") for kind, row in CRASHES]
)
def test_an_end_is_told_for_what_it_was(kind: str, row: Row) -> None:
    right = told(kind, row) == labelled(row)
    assert right is (f"{kind}/{row['name']}" not in MISSES), f"told as {told(kind, row)}"


def test_at_least_95_of_100_are_told_right() -> None:
    names = [f"{kind}/{row['name']}" for kind, row in CRASHES]
    right = sum(told(kind, row) == labelled(row) for kind, row in CRASHES)
    cited = [row["source"] for _, row in CRASHES if "source" in row]
    rate = 100 * right / len(names)
    print(f"{right} of {len(names)} ends are told right, {rate:.1f} %; {len(cited)} are cited")
    assert len(set(names)) == len(names) >= 60 and set(MISSES) <= set(names)
    assert len(cited) >= 30 and all(source.startswith("https://") for source in cited)
    assert right >= 0.95 * len(names)


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(row, id=f"{kind}/{row['name']}")
        for kind in OF_RANKS
        for row in rows(kind)
        if row["code"] == 1
    ],
)
def test_an_error_says_the_same_as_last_lines(row: Row) -> None:
    """A script that leaves torch's error file, with a text alone."""
    outcome = outcome_of_text(row.get("tail", "")) or OUTCOMES[ExitCode.USER_ERROR]
    assert (outcome.cause, outcome.reason) == told("ranks", row)


def test_labels_are_words_that_there_are() -> None:
    # The coordinator, the policy and the trainer's own check find these; no text or exit code does.
    found = {Cause.HANG, Cause.NO_PROGRESS, Cause.NUMERICAL_DIVERGENCE, Cause.STRAGGLER_SUSPECTED}
    assert {row["cause"] for _, row in CRASHES if "cause" in row} == set(Cause) - found
    ours = {row["reason"] for kind, row in CRASHES if kind in OF_RANKS}
    assert ours <= set(Reason)


@pytest.mark.parametrize("row", [pytest.param(row, id=row["name"]) for row in rows("hardware")])
def test_the_attempt_says_what_mends_the_machine(row: Row) -> None:
    report = report_of(row)
    report = report.model_copy(
        update={"message": truncate_message(f"{'a line of the log' * 100}\n{report.message}")}
    )
    history, _ = interrupt(HISTORY, RunFailure(report), {})
    message = history.attempts[0].message
    assert row["remedy"] in message and len(message) <= MESSAGE_LIMIT
    assert row["tail"].splitlines()[-1][-60:] in message


def test_hardware_is_neither_the_users_error_nor_memory() -> None:
    hardware = rows("hardware")
    assert len({row["source"] for row in hardware}) >= 25 and all("source" in row for row in hardware)
    assert not {row["cause"] for row in hardware} & {Cause.USER_ERROR, Cause.OUT_OF_MEMORY}


@pytest.mark.parametrize("row", [pytest.param(row, id=row["name"]) for row in rows("hardware")])
def test_the_page_lists_each_thread_under_its_cause(row: Row) -> None:
    _, _, section = PAGE.read_text().partition(f"\n## {row['cause']}, {row['reason']}\n")
    assert f"]({row['source']})" in section.partition("\n## ")[0]
