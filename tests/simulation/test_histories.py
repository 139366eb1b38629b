"""Random histories: one to four faults and a few edits at any moments, and what must never be seen."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, Phase, seed, settings, strategies
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.support.matrix import FAULTS, Fault, may_end
from tests.support.operator_fakes import run_manifest
from tests.support.simulation.cells import HANG
from tests.support.simulation.faults import INJECT
from tests.support.simulation.virtual_loop import VirtualLoop
from tests.support.simulation.world import Simulation

STEPS: Final = 60
EACH: Final = 25  # histories in each of the tests below
HISTORIES: Final = int(os.environ.get("HISTORIES", "200"))  # in all of them
ENOUGH: Final = 900.0  # virtual seconds, for whatever came
EDITS: Final[dict[str, dict[str, Any]]] = {
    "suspend": {"suspend": True},
    "resume": {"suspend": False},
    "shrink": {"compute": {"nodes": 1}},
    "grow": {"compute": {"nodes": 3}},
    "longer": {"training": {"steps": 70}},
}


class History(RuleBasedStateMachine):
    """One run in one cluster, and what comes over it."""

    def __init__(self) -> None:
        super().__init__()
        logging.disable(logging.CRITICAL)  # a thousand warnings, all of which are meant
        self.runner = asyncio.Runner(loop_factory=VirtualLoop)
        self.faults: list[Fault] = []
        self.edits = 0

    @initialize(
        chance=strategies.integers(0, 10_000),
        nodes=strategies.sampled_from([2, 3]),
        spares=strategies.sampled_from([0, 1]),
        least=strategies.sampled_from([None, 1]),
    )
    def begin(self, chance: int, nodes: int, spares: int, least: int | None) -> None:
        """The run is applied in a cluster that has room for it and three nodes more."""

        async def begun() -> Simulation:
            world = Simulation(chance, nodes=nodes + 3)
            world.pace = 0.5
            world.apply(
                compute={"profile": "local-cpu", "nodes": nodes, "spares": spares}
                | ({"minNodes": least} if least else {}),
                training={**run_manifest()["spec"]["training"], "steps": STEPS, "globalBatchSize": 12},
                resilience={"hang": HANG},
            )
            return world

        self.world = self.runner.run(begun())

    @rule(seconds=strategies.sampled_from([0.2, 0.7, 1.5, 4.0, 9.0]))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.runner.run(self.world.until_seconds(seconds))

    @precondition(lambda self: len(self.faults) < 4)
    @rule(name=strategies.sampled_from(sorted(INJECT)))
    def fault(self, name: str) -> None:
        """A fault comes."""
        self.faults.append(FAULTS[name])

        async def inject() -> None:
            INJECT[name](self.world)

        self.runner.run(inject())

    @precondition(lambda self: self.edits < 3)
    @rule(name=strategies.sampled_from(sorted(EDITS)))
    def edit(self, name: str) -> None:
        """Somebody changes his mind."""
        self.edits += 1

        async def change() -> None:
            spec = self.world.run["spec"]
            self.world.apply(
                **{
                    field: {**spec[field], **value} if isinstance(value, dict) else value
                    for field, value in EDITS[name].items()
                }
            )

        self.runner.run(change())

    def teardown(self) -> None:
        """All goes on to its end, which must be a good one, or one that a budget allows."""
        try:
            if hasattr(self, "world"):
                self.runner.run(self._ends())
        finally:
            self.runner.close()
            logging.disable(logging.NOTSET)

    async def _ends(self) -> None:
        world = self.world
        await world.until_seconds(2.0)
        if world.phase not in ("Succeeded", "Failed"):
            world.apply(suspend=False)
        await world.until(lambda: world.phase in ("Succeeded", "Failed"), ENOUGH)
        if world.phase == "Failed":
            ended = world.status["attempts"][-1].get("cause")
            assert ended in may_end(self.faults), f"{ended}: {world.describe()}"
            world.check_invariants()
        else:
            await world.until(lambda: len(world.stored) >= STEPS, ENOUGH)
            world.check_history(world.status["progress"]["totalSteps"])
        await world.until(lambda: not world.live_pods(), ENOUGH)


@pytest.mark.parametrize("number", range(HISTORIES // EACH))
def test_no_history_ends_a_run_or_stalls_it(number: int) -> None:
    machine = seed(number)(type(f"History{number}", (History,), {}))
    run_state_machine_as_test(machine, settings=SETTINGS)


SETTINGS: Final = settings(
    max_examples=EACH,
    stateful_step_count=12,
    deadline=None,
    derandomize=False,
    database=None,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)
