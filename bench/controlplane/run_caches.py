"""Megabytes that the operator's objects of a live run take, connections left out.

    python -m bench.controlplane.run_caches

All runs train with two workers before an operator begins, and is traced; nothing is written then.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import sys
import tracemalloc

from tests.support.operator_fakes import profile_manifest, run_manifest
from tests.support.operator_world import World


async def grown(runs: int) -> float:
    """Megabytes a run."""
    world = World()
    world.cluster.put(profile_manifest())
    training = {**run_manifest()["spec"]["training"], "steps": 10**6}
    for number in range(runs):
        world.cluster.put(run_manifest(name=f"run-{number}", training=training))
    while not all(body.get("status", {}).get("phase") == "Running" for body in _runs(world)):
        await _settle(world)
        world.pass_unseen(0.5)
        world._speak()
    await _settle(world)
    world.start_operator()
    told = [(event, json.dumps(body)) for event, body in world.watches.pending]
    world.watches.pending = []
    gc.collect()
    tracemalloc.start()
    world.watches.pending = [(event, json.loads(body)) for event, body in told]
    for _ in range(3):
        await _settle(world)
        world._speak()
        world.clock.advance(2)
    gc.collect()
    return tracemalloc.get_traced_memory()[0] / 1e6 / runs


def _runs(world: World) -> list[dict[str, dict[str, str]]]:
    return [body for (kind, _), body in world.cluster.objects.items() if kind.name == "TrainingRun"]


async def _settle(world: World) -> None:
    await world.watches.deliver(world.handlers)
    while keys := world.queue.ready():
        for key in keys:
            await world.reconciler(key)
        await world.watches.deliver(world.handlers)


def main() -> int:
    """Print the figure."""
    parser = argparse.ArgumentParser(prog="bench.controlplane.run_caches", description=__doc__)
    parser.add_argument("--runs", type=int, default=60)
    parser.add_argument("--smoke", action="store_true", help="two runs")
    arguments = parser.parse_args()
    logging.disable()
    seen = asyncio.run(grown(2 if arguments.smoke else arguments.runs))
    print(f"{seen:.3f} MB of Python objects a run (bar, with bench.controlplane.long_polls: 0.12)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
