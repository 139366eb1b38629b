"""The page of what goes together."""

from __future__ import annotations

from tools.compatibility_page import page

from footplate_planning.compatibility import REFUSED, Feature


def test_each_pair_is_told_and_each_reason_numbered() -> None:
    lines = page({frozenset((Feature.FULL, Feature.TENSOR))}).splitlines()
    rows = {line.split("|")[1].strip(" `"): line.split("|")[2:-1] for line in lines if line.startswith("| `")}
    columns = list(Feature)

    def cell(feature: Feature, other: Feature) -> str:
        return rows[feature][columns.index(other)].strip()

    assert cell(Feature.TENSOR, Feature.FULL) == "+"
    assert cell(Feature.CONTEXT, Feature.TENSOR) == "o"
    assert cell(Feature.FULL, Feature.NONE) == "–"
    assert cell(Feature.ENCODER_DECODER, Feature.CONTEXT) == "1"
    assert len([line for line in lines if line[:1].isdigit()]) == len(set(REFUSED.values()))
