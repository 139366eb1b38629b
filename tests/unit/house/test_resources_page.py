"""The page of all fields says of each what a user has to know."""

from __future__ import annotations

import pytest
from tools.crds import all_definitions
from tools.resources_page import reference

LINES = reference().splitlines()


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(
            "| `queue` | string, at most 63 |  | *later:* name of a Kueue LocalQueue |",
            id="without-behaviour-yet",
        ),
        pytest.param(
            '| `securityProfile` | `restricted`, `baseline`, `privileged` | `"restricted"` | '
            "*now: use restricted.* no effect; the profile's securityProfile applies |",
            id="of-which-some-has-behaviour",
        ),
        pytest.param(
            "| `globalBatchSize` | integer, 1 to 1,000,000,000 | required | sequences per optimizer step,"
            " regardless of the number of processes |",
            id="required-and-bounded",
        ),
        pytest.param("| `sources` | list, at most 64 |  | mixture of folders, instead of uri |", id="list"),
        pytest.param("### spec.trainer.env[]", id="objects-of-a-list-have-a-table"),
    ],
)
def test_line(line: str) -> None:
    assert line in LINES


def test_every_kind_has_a_section() -> None:
    kinds = [definition["spec"]["names"]["kind"] for definition in all_definitions().values()]
    assert [line.removeprefix("## ") for line in LINES if line.startswith("## ")] == kinds


def test_when_fields_may_change() -> None:
    (never,) = (line for line in LINES if line.startswith("Never changes: "))
    (suspended,) = (line for line in LINES if line.startswith("Changes only while the run is suspended: "))
    assert "`training.seed`" in never and "`compute.profile`" not in never
    assert "`compute.profile`" in suspended and "`training.seed`" not in suspended
    assert all("odes`" not in line for line in (never, suspended)), "the size changes at any time"
