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

from footplate_operator.runtime.kinds import POD
from tests.support.matrix import FAULTS, Fault, may_end
from tests.support.operator_fakes import run_manifest
from tests.support.simulation import virtual_loop
from tests.support.simulation.cells import HANG
from tests.support.simulation.faults import INJECT, LASTING
from tests.support.simulation.virtual_loop import VirtualLoop
from tests.support.simulation.world import CHECKPOINT, Simulation

# A run in a cluster, and what may come over it at any moment: faults and edits, down to a good end.

STEPS: Final = 60
ENOUGH: Final = 900.0  # virtual seconds, for whatever came
EDITS: Final[dict[str, dict[str, Any]]] = {
    "suspend": {"suspend": True},
    "resume": {"suspend": False},
    "shrink": {"compute": {"nodes": 1}},
    "grow": {"compute": {"nodes": 3}},
    "longer": {"training": {"steps": 70}},
    "shorter": {"training": {"steps": 50}},
    "fewer may train": {"compute": {"minNodes": 1}},
    "all must train": {"compute": {"minNodes": None}},
}
CRASHES: Final = {f"operator dies after call {calls}": calls for calls in (1, 2, 3, 5)}
TAKES: Final = 8  # steps within which a new length is in force, where nothing goes wrong
COLLECTED: Final = 10.0  # seconds until Kubernetes deletes what a deleted run has left
SIZE_TAKES: Final = 30  # and a new size, which waits for a checkpoint


class Disturbed:
    """The run is applied in a cluster that has room for it and three nodes more."""

    def __init__(
        self, chance: int, nodes: int, spares: int = 0, least: int | None = None, memory: bool = False
    ) -> None:
        self.world = Simulation(chance, nodes=nodes + 3)
        self.faults: list[Fault] = []
        self.crashed = False
        self.edited: dict[str, int] = {}  # field of the spec -> the step at which it was changed last
        self.world.pace = 0.5
        self.world.apply(
            compute={"profile": "local-cpu", "nodes": nodes, "spares": spares}
            | ({"minNodes": least} if least else {}),
            training={**run_manifest()["spec"]["training"], "steps": STEPS, "globalBatchSize": 12},
            resilience={"hang": HANG},
            **({"checkpoint": {**CHECKPOINT, "memory": {"everySteps": 1}}} if memory else {}),
        )

    def fault(self, name: str) -> None:
        """One that comes now."""
        self.faults.append(FAULTS[name])
        INJECT[name](self.world)

    def edit(self, name: str) -> None:
        """Somebody changes his mind."""
        spec = self.world.run["spec"]
        for field, value in EDITS[name].items():
            self.edited[field] = self.world.step
            self.world.apply(**{field: _edited(spec[field], value) if isinstance(value, dict) else value})

    def crash(self, name: str) -> None:
        """The operator dies in the middle of what it does next."""
        self.crashed = True
        self.world.crash_after(CRASHES[name])

    async def wait(self, seconds: float) -> None:
        """Time passes."""
        await self.world.until_seconds(seconds)

    async def ends(self) -> None:
        """All goes on to its end, which must be a good one, or one that a budget allows."""
        world = self.world
        await world.until_seconds(2.0)
        if world.run["spec"].get("suspend"):
            await world.until(lambda: world.phase in ("Suspended", "Succeeded", "Failed"), ENOUGH)
            await world.until(lambda: not world.live_workers(), ENOUGH)
        if world.phase not in ("Succeeded", "Failed"):
            world.apply(suspend=False)
        await world.until(lambda: world.phase in ("Succeeded", "Failed"), ENOUGH)
        if world.phase == "Failed":
            ended = world.status["attempts"][-1].get("cause")
            assert ended in may_end(self.faults), f"{ended}: {world.describe()}"
            world.check_invariants()
        else:
            total = world.status["progress"]["totalSteps"]
            await world.until(lambda: len(world.stored) >= total, ENOUGH)
            world.check_history(total)
            self._check_spec()
        await world.until(lambda: not world.live_pods(), ENOUGH)

    async def deleted(self) -> None:
        """Somebody deletes it, and nothing of it is left."""
        self.world.delete()
        await self.world.until_seconds(COLLECTED)
        if not self.faults and not self.crashed:
            staying = [pod for pod in self.world.live_pods() if "deletionTimestamp" not in pod["metadata"]]
            assert not staying, f"nobody deletes {[pod['metadata']['name'] for pod in staying]}"
        for pod in self.world.live_pods():
            self.world.objects.end(POD, pod["metadata"]["name"], 30)
        await self.world.until(lambda: not self.world.live_pods(), ENOUGH)
        self.world.check_invariants()
        await self.world.until(self.world.usage.settled, ENOUGH)
        self.world.usage.check()

    def _check_spec(self) -> None:
        """It ended where the last spec says, where that came in time and nothing else came over it."""
        if self.faults or self.crashed:
            return
        spec, status = self.world.run["spec"], self.world.status
        total = status["progress"]["totalSteps"]
        if self.edited.get("training", 0) + TAKES < min(total, spec["training"]["steps"]):
            assert total == spec["training"]["steps"], f"trained to {total}"
        if self.edited.get("compute", 0) + SIZE_TAKES < total:
            trained = status["attempts"][-1]["nodes"]
            assert trained == spec["compute"]["nodes"], f"{trained} nodes trained to the end"


def _edited(part: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """`part` of a spec with `change`; what is None there is left out."""
    return {name: value for name, value in {**part, **change}.items() if value is not None}


EACH: Final = 25  # histories in each of the tests below
FEW: Final = 200  # for `make test`
HISTORIES: Final = int(os.environ.get("HISTORIES", "2000"))  # in all of them


class History(RuleBasedStateMachine):
    """One run in one cluster, and what comes over it."""

    def __init__(self) -> None:
        super().__init__()
        logging.disable(logging.CRITICAL)  # a thousand warnings, all of which are meant
        self.runner = asyncio.Runner(loop_factory=VirtualLoop)
        self.edits = 0

    @initialize(
        chance=strategies.integers(0, 10_000),
        nodes=strategies.sampled_from([2, 3]),
        spares=strategies.sampled_from([0, 1]),
        least=strategies.sampled_from([None, 1]),
        memory=strategies.booleans(),
        deleted=strategies.sampled_from([False, False, False, True]),
    )
    def begin(
        self, chance: int, nodes: int, spares: int, least: int | None, memory: bool, deleted: bool
    ) -> None:
        """The run is applied; `deleted`: so it ends, and not by itself."""
        self.deleted = deleted

        async def begun() -> Disturbed:
            return Disturbed(chance, nodes, spares, least, memory)

        self.disturbed = self.runner.run(begun())

    @rule(seconds=strategies.sampled_from([0.2, 0.7, 1.5, 4.0, 9.0]))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.runner.run(self.disturbed.wait(seconds))

    @precondition(lambda self: len(self.disturbed.faults) < 4)
    @rule(name=strategies.sampled_from(sorted(INJECT.keys() - LASTING)))
    def fault(self, name: str) -> None:
        """A fault comes."""

        async def inject() -> None:
            self.disturbed.fault(name)

        self.runner.run(inject())

    @precondition(lambda self: self.edits < 3)
    @rule(name=strategies.sampled_from(sorted(EDITS)))
    def edit(self, name: str) -> None:
        """Somebody changes his mind."""
        self.edits += 1

        async def change() -> None:
            self.disturbed.edit(name)

        self.runner.run(change())

    @precondition(lambda self: not self.disturbed.crashed)
    @rule(name=strategies.sampled_from(sorted(CRASHES)))
    def crash(self, name: str) -> None:
        """The operator dies between two of its next calls."""

        async def die() -> None:
            self.disturbed.crash(name)

        self.runner.run(die())

    def teardown(self) -> None:
        """All goes on to its end."""
        try:
            if hasattr(self, "disturbed"):
                end = self.disturbed.deleted() if self.deleted else self.disturbed.ends()
                self.runner.run(end)
        finally:
            self.runner.close()
            logging.disable(logging.NOTSET)


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(number, marks=[pytest.mark.long] * (number >= FEW // EACH))
        for number in range(HISTORIES // EACH)
    ],
)
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


# Each of them went wrong once: the run, and what came over it; numbers are seconds that passed.
FOUND: Final[dict[str, tuple[dict[str, int], list[str | float]]]] = {
    "a-node-lacks-the-image-of-a-run-that-is-suspended-before-it-trains": (
        {"chance": 454},
        [
            *(4.0, "grow", "image gone for the substitute", "grow", "suspend"),
            *("API server restarted", "API server unwell"),
        ],
    ),
    "an-operator-dies-after-the-revision-of-its-run-was-refused": (
        {"chance": 157},
        ["operator dies after call 2", "API server unwell"],
    ),
    "steps-that-only-the-agents-of-others-tell-of-are-lost": (
        {},
        ["grow", 9.0, "agent stopped", 1.5, "suspend", "NaN loss"],
    ),
    "nobody-who-trained-is-heard-again": (
        {},
        ["API server restarted", 12.7, "suspend", "coordinator cut off", "two nodes powered off"],
    ),
    "nor-who-trained-alone-on-a-node-that-is-cut-off": (
        {"chance": 79, "spares": 1},
        [
            *(9.0, "two workers deleted", 4.2, "node cut off", "grow"),
            *(0.2, "grow", "suspend", "volume hangs"),
        ],
    ),
    "a-pod-ends-before-its-generation-is-known-to-the-new-leader": (
        {},
        ["grow", 4.0, "leader stopped", 0.7, "agent out of memory"],
    ),
    "a-frozen-agent-of-a-generation-of-one-leaves-its-ranks-to-themselves": (
        {},
        ["shrink", "longer", 4.7, "grow", "agent stopped", "API server restarted"],
    ),
    "and-while-the-gang-grows": (
        {},
        ["grow", "shrink", 4.7, "grow", "API server restarted", "agent stopped"],
    ),
    "and-where-its-connection-ends-by-itself": ({}, [1.5, "shrink", 9.0, "agent stopped"]),
    "and-on-a-node-that-is-cut-off": (
        {"spares": 1, "least": 1},
        [
            *(9.0, "two workers deleted", 1.5, "grow", "node cut off"),
            *("grow", "grow", "API server restarted"),
        ],
    ),
    "and-with-its-coordinator": (
        {"chance": 1, "spares": 1, "least": 1},
        [
            *(9.0, "two workers deleted", 1.5, "node cut off"),
            *("grow", "grow", "grow", "API server restarted"),
        ],
    ),
    "the-only-agent-is-frozen-while-it-gathers": ({}, [9.0, "shrink", 9.0, "agent stopped"]),
    "and-another-coordinator-hears-nobody-either": (
        {},
        ["shrink", "longer", "longer", 4.0, "agent stopped", "coordinator cut off"],
    ),
    "a-run-ends-unseen-and-is-to-be-suspended": (
        {"chance": 398, "spares": 1},
        [4.0, "shorter", "etcd paused", "suspend"],
    ),
    "and-is-to-be-shorter-than-it-is-by-then": (
        {"chance": 398, "spares": 1},
        [4.0, "etcd paused", "shorter", "suspend"],
    ),
    "a-run-is-to-be-shorter-than-what-it-has-saved": (
        {"chance": 398, "spares": 1},
        [32.0, "suspend", 4.0, "shorter", 2.0],
    ),
}


@pytest.mark.parametrize(("run", "events"), FOUND.values(), ids=FOUND.keys())
def test_what_went_wrong_once_does_not_again(run: dict[str, int], events: list[str | float]) -> None:
    async def story() -> None:
        disturbed = Disturbed(**{"chance": 0, "nodes": 2, **run})
        for event in events:
            if isinstance(event, float):
                await disturbed.wait(event)
            elif event in EDITS:
                disturbed.edit(event)
            elif event in CRASHES:
                disturbed.crash(event)
            else:
                disturbed.fault(event)
        await disturbed.ends()

    virtual_loop.run(story())
