"""Waiting time of a pipeline's ranks, by schedule, before any rank exists. Pure.

In units of a third of a stage's forward and backward pass of one micro-batch:
forward 1, gradient of inputs 1, gradient of weights 1. All stages cost the same
and messages nothing. `bench/trainer/collectives.py` runs torch's schedules and
finds the same numbers (docs/parallelism.md).
"""

from __future__ import annotations

from footplate_contracts.v1alpha1.parallelism import PipelineSchedule
from footplate_planning.topology import Topology


def idle_units(topology: Topology, count: int) -> int:
    """Return the units that each rank waits in a step of `count` micro-batches, from first to last action.

    The first terms are the published ones (Huang et al. 2019 for GPipe, Narayanan
    et al. 2021 for interleaving, Qi et al. 2023 and 2024 for zero bubble); the
    others apply to fewer micro-batches than fill the pipeline.
    """
    ranks, rounds = topology.pipeline, topology.virtual_stages
    missing = max(0, ranks - count)
    match topology.schedule:
        case PipelineSchedule.GPIPE | PipelineSchedule.ONE_FORWARD_ONE_BACKWARD:
            return 3 * (ranks - 1)
        case PipelineSchedule.INTERLEAVED:
            return 3 * (ranks - 1) + 3 * (rounds - 1) * missing
        case PipelineSchedule.INTERLEAVED_ZERO_BUBBLE:
            return ranks - 1 + rounds * missing + (rounds - 1) * max(0, ranks - 2 * count)
        case PipelineSchedule.ZBV:
            return max(ranks - 1, 4 * ranks - 2 - 2 * count)


def bubble_fraction(topology: Topology, count: int) -> float:
    """Return the share of a step's time that each rank waits; 0 without a pipeline."""
    if topology.pipeline == 1:
        return 0.0
    waiting = idle_units(topology, count)
    return waiting / (3 * topology.virtual_stages * count + waiting)
