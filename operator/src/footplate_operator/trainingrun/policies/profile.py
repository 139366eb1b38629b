"""Checks of a run's ComputeProfile: whether it suits the run, and its changes since admission.

A run was checked against its profile when it was written, and the profile may have been changed since. A
training run goes on as it was admitted, whatever becomes of its profile.
"""

from __future__ import annotations

from typing import Final

from footplate_contracts.runconfig import RunConfig
from footplate_contracts.v1alpha1.computeprofile import Capacity, ComputeProfileSpec
from footplate_planning.topology import legal_node_counts

_NEAR: Final = 64  # nodes around a number that cannot train, among which others are looked for
_SHOWN: Final = 4
_IN_FORCE_AT_ONCE: Final = frozenset({"price.dollarsPerNodeHour", "price.effectiveFrom"})


def refusal(config: RunConfig, name: str, profile: ComputeProfileSpec) -> str:
    """Return why a run of this config cannot train on nodes of profile `name`; empty if it can."""
    world, training = config.world, config.training
    processes = world.processes_per_node
    if profile.gpu is not None and processes > profile.gpu.count:
        return (
            f"compute.processesPerNode {processes} is above the {profile.gpu.count} GPUs that a node of"
            f" ComputeProfile {name} has; lower it, or use another profile"
        )
    micro_batches = -(-training.global_batch_size // training.micro_batch_size)

    rollout = config.rollout.parallelism if config.rollout else None

    def legal(least: int, most: int) -> tuple[int, ...]:
        return legal_node_counts(least, most, processes, config.parallelism, micro_batches, rollout)

    least = world.min_nodes or world.nodes
    if legal(least, world.nodes):
        return ""
    near = legal(max(1, world.nodes - _NEAR), world.nodes + _NEAR)
    nearest = sorted(sorted(near, key=lambda count: abs(count - world.nodes))[:_SHOWN])
    suits = "parallelism, rollout.parallelism" if rollout else "parallelism"
    asked = f"compute.minNodes {least} to compute.nodes" if least < world.nodes else "compute.nodes"
    return (
        f"{asked} {world.nodes}, with {processes} processes on each: no such number of nodes fits"
        f" {suits} and training.globalBatchSize {training.global_batch_size}; the nearest that"
        f" fit: {', '.join(map(str, nearest)) or 'none, so change parallelism'}"
    )


def list_changed_fields(frozen: ComputeProfileSpec, live: ComputeProfileSpec) -> list[str]:
    """Return the profile's fields that differ from those at the run's admission, two levels deep.

    Its price is not among them: it takes effect at once, through the price book. How nodes are bought waits.
    """
    before, after = _fields(frozen), _fields(live)
    names = {*before, *after} - _IN_FORCE_AT_ONCE
    return sorted(name for name in names if before.get(name) != after.get(name))


def _fields(profile: ComputeProfileSpec) -> dict[str, object]:
    said = profile.to_json()
    said.setdefault("price", {"capacity": Capacity.ON_DEMAND})  # as the ledger has it of one without a price
    parts = {name: value if isinstance(value, dict) else {"": value} for name, value in said.items()}
    return {
        f"{name}.{field}".rstrip("."): value for name, part in parts.items() for field, value in part.items()
    }
