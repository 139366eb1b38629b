"""A process is its pid and its start time."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cluster.machine.records import Record, Records, alive, decode, encode, observed_start_time, start_time

RECORD = Record("etcd", 42, 777, ("etcd", "--data-dir=/x"))


def stat(command: str = "etcd", state: str = "S", ticks: int = 777) -> str:
    return f"42 ({command}) {state} " + " ".join(["0"] * 18) + f" {ticks} 0 0"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(stat(), 777, id="running"),
        pytest.param(stat(command="a) S (b"), 777, id="parentheses-and-spaces-in-the-name"),
        pytest.param(stat(state="Z"), None, id="zombie"),
        pytest.param("", None, id="gone-while-reading"),
    ],
)
def test_start_time(text: str, expected: int | None) -> None:
    assert start_time(text) == expected


def test_records_survive_the_way_to_a_file_and_back() -> None:
    assert decode(encode(RECORD)) == RECORD


@pytest.mark.parametrize("text", ["", "{", "[]", '{"name": "etcd"}', '{"name": 1, "pid": "x"}'])
def test_half_a_record_is_no_record(text: str) -> None:
    assert decode(text) is None


def test_a_pid_that_was_given_to_another_process_is_not_ours() -> None:
    started = observed_start_time(os.getpid())
    assert started is not None
    assert alive(Record("self", os.getpid(), started, ()))
    assert not alive(Record("self", os.getpid(), started - 1, ()))


def test_the_folder_of_records(tmp_path: Path) -> None:
    records = Records(tmp_path / "processes")
    assert records.all() == []
    records.save(RECORD)
    (tmp_path / "processes" / "broken.json").write_text("{")
    assert records.all() == [RECORD]
    assert records.get("etcd") == RECORD
    records.forget("etcd")
    records.forget("etcd")
    assert records.get("etcd") is None
