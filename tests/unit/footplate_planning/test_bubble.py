"""The share of a step that ranks of a pipeline spend waiting."""

from __future__ import annotations

import pytest

from footplate_contracts.v1alpha1.parallelism import PipelineSchedule
from footplate_planning import bubble
from footplate_planning.topology import Topology


@pytest.mark.parametrize(
    ("topology", "count", "share"),
    [
        pytest.param(Topology(), 4, 0.0, id="no-pipeline"),
        pytest.param(Topology(pipeline=4, schedule=PipelineSchedule.GPIPE), 8, 3 / 11, id="gpipe"),
        pytest.param(Topology(pipeline=4), 8, 3 / 11, id="1f1b"),
        pytest.param(
            Topology(pipeline=4, virtual_stages=2, schedule=PipelineSchedule.INTERLEAVED),
            8,
            3 / 19,
            id="interleaved",
        ),
        pytest.param(
            Topology(pipeline=4, virtual_stages=2, schedule=PipelineSchedule.ZBV), 8, 1 / 17, id="zbv"
        ),
    ],
)
def test_known_shares(topology: Topology, count: int, share: float) -> None:
    assert bubble.bubble_fraction(topology, count) == pytest.approx(share)
