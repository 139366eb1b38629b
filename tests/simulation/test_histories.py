"""Random histories: one to four faults and a few edits at any moments, and what must never be seen."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import Final

import pytest
from hypothesis import HealthCheck, Phase, seed, settings, strategies
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.support.simulation import virtual_loop
from tests.support.simulation.faults import INJECT, LASTING
from tests.support.simulation.histories import CRASHES, EDITS, Disturbed
from tests.support.simulation.virtual_loop import VirtualLoop

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
