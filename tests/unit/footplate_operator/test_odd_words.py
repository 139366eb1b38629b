"""What a coordinator says that no status can hold: it is passed over, and the run is reconciled."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import strategies as st
from pydantic import ValidationError

from footplate_contracts.coordinator_state import (
    CoordinatorState,
    MissedAgent,
    NumberedFailure,
    UnreachablePair,
    Verdict,
)
from footplate_contracts.energy import PodEnergy
from footplate_contracts.failures import FailureReport
from footplate_contracts.names import Cause
from footplate_contracts.rendezvous import AgentIdentity
from footplate_contracts.reports import (
    CheckpointRecord,
    DroppedTelemetry,
    GenerationId,
    RankPhase,
    RetainedCheckpoint,
)
from footplate_contracts.v1alpha1.status import TrainingRunStatus
from tests.support.fake_cluster import copied
from tests.support.operator_fakes import KEY
from tests.support.operator_world import World, running
from tests.support.properties import given

Path = tuple[str | int, ...]
ODD: tuple[Any, ...] = (
    *(-1, -(10**18), 10**9 + 1, 10**15 + 1, 2**31, 2**63, 10**30, 10**300),
    *(-0.5, 1e300, -1e300, "NaN", "Infinity", "-Infinity"),
    *("", "\0", "☃" * 64, "x" * 300, "x" * 1024, "x" * 5000, None, True, [], {}),
)
AGENT = AgentIdentity(index=1, incarnation=0, pod_name="tiny-w1-0", address="10.0.0.3", local_world_size=2)
OTHER = AGENT.model_copy(update={"index": 0, "node_name": "node-0"})


def _full(state: CoordinatorState) -> dict[str, Any]:
    """`state` with something in every field, as JSON."""
    generation = state.generation or GenerationId(epoch=1, number=1)
    failure = FailureReport(
        cause=Cause.USER_ERROR, reason="PythonError", message="no", rank=1, exit_code=1, step=4, time=1.7e9
    )
    numbered = NumberedFailure(
        number=1, failure=failure, agent=AGENT, generation=generation, checkpoint_step=4
    )
    standing = RetainedCheckpoint(step=4, generation=generation, digest="a" * 64, validation_loss=2.5)
    record = CheckpointRecord(
        step=5,
        uri="/shared/checkpoints/step-5.e1g1",
        time=1.7e9,
        generation=generation,
        digest="b" * 64,
        validation_loss=2.0,
        standing=[standing],
    )
    energy = PodEnergy(pod_uid="uid-14", millijoules=1, counter_seconds=1, power_seconds=1)
    update = {
        "refusals": {"nodes": "they cannot train"},
        "missing": [1],
        "missed": [MissedAgent(agent=AGENT, verdict=Verdict.SUSPECT, seconds=3.0)],
        "unreachable": [UnreachablePair(one=AGENT, other=OTHER)],
        "waiting": [AGENT],
        "progress": state.progress.model_copy(update={"phase": RankPhase.ROLLOUT, "finished": 3}),
        "checkpoint": record,
        "checkpoint_steps": [3, 4, 5],
        "failures": [numbered],
        "failures_by_cause": {Cause.USER_ERROR.value: 1},
        "given_up": DroppedTelemetry(refused=1, overflowed=1),
        "energy": [energy],
    }
    return state.model_copy(update=update).to_json()


def _leaves(plain: Any, path: Path = ()) -> Iterator[Path]:
    if isinstance(plain, Mapping) and plain:
        for name, value in plain.items():
            yield from _leaves(value, (*path, name))
    elif isinstance(plain, list) and plain:
        for place, value in enumerate(plain):
            yield from _leaves(value, (*path, place))
    else:
        yield path


def _with(plain: Any, path: Path, value: object) -> Any:
    if not path:
        return value
    changed = copied(plain)
    changed[path[0]] = _with(changed[path[0]], path[1:], value)
    return changed


async def _reconciled(world: World, state: CoordinatorState) -> None:
    """Reconciles the run under what `state` says; raises whatever would keep it from that."""
    reconciler, (uid,) = world.reconciler, world.heard
    controller = reconciler.controller
    world.heard[uid] = state
    run = controller.decode(copied(world.run))
    children = world.cache.children(run.namespace, run.uid)
    observed = await controller.observe(run, children, world.clock())
    status = controller.desire(run, observed, None, world.clock()).status
    text = json.dumps(status.to_json(), allow_nan=False)
    TrainingRunStatus.from_json(json.loads(text))
    assert all(attempt.exit_code is None or abs(attempt.exit_code) < 2**31 for attempt in status.attempts)


async def _all_reconciled(changes: list[tuple[int, Any]]) -> None:
    world = await running()
    plain = _full(next(iter(world.heard.values())))
    assert plain.keys() >= {field.alias for field in CoordinatorState.model_fields.values()}
    paths = list(_leaves(plain))
    for place, value in changes:
        plain = _with(plain, paths[place % len(paths)], value)
    try:
        state = CoordinatorState.from_json(plain)
    except ValidationError:
        return  # as if it had not answered
    await _reconciled(world, state)


@given(st.lists(st.tuples(st.integers(0, 10**6), st.sampled_from(ODD)), max_size=4))
def test_no_combination_of_odd_values_keeps_a_run_from_being_reconciled(
    changes: list[tuple[int, Any]],
) -> None:
    asyncio.run(_all_reconciled(changes))


async def test_no_odd_value_of_any_field_keeps_a_run_from_being_reconciled() -> None:
    world = await running()
    plain = _full(next(iter(world.heard.values())))
    tried = 0
    for path in _leaves(plain):
        for value in ODD:
            try:
                state = CoordinatorState.from_json(_with(plain, path, value))
            except ValidationError:
                continue
            tried += 1
            try:
                await _reconciled(world, state)
            except Exception as error:
                error.add_note(f"{'.'.join(map(str, path))} was {value!r:.40}")
                raise
    assert tried > 500


async def _told(world: World, **update: Any) -> None:
    """The coordinator says something else, and the operator acts upon it."""
    (uid,) = world.heard
    world.heard[uid] = world.heard[uid].model_copy(update=update)
    world.clock.advance(60)
    world.queue.add(KEY)
    await world.reconcile()


async def test_the_longest_uri_of_a_spec_is_shown_with_the_directory_in_it() -> None:
    uri = "/" + "x" * 1023
    world = await running(checkpoint={"uri": uri, "everySteps": 10})
    directory = f"{uri}/step-{10**15}.e{10**15}g{10**15}"
    await _told(world, checkpoint=CheckpointRecord(step=10**15, uri=directory, time=1.7e9))
    assert world.status["checkpoint"]["uri"] == directory


@pytest.mark.parametrize(
    "odd",
    [
        pytest.param({"time": 1e300}, id="time"),
        pytest.param({"time": float("nan")}, id="nan"),
        pytest.param({"step": -5}, id="step"),
        pytest.param({"uri": "x" * 5000}, id="uri"),
    ],
)
async def test_a_record_that_cannot_be_shown_is_passed_over_and_said_once(
    odd: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    world = await running()
    good = CheckpointRecord(step=5, uri="/shared/checkpoints/step-5.e1g1", time=1.7e9)
    await _told(world, checkpoint=good)
    known = world.status["checkpoint"]
    with caplog.at_level(logging.WARNING):
        for step in (6, 7):
            bad = good.model_copy(update={"uri": f"/step-{step}", **odd})
            progress = world.coordinator().view(0.0).progress.model_copy(update={"step": step})
            await _told(world, checkpoint=bad, progress=progress)
    assert (world.status["checkpoint"], world.status["progress"]["step"]) == (known, 7)
    said = [line for line in caplog.records if "ignoring values" in line.message]
    assert [line.__dict__["fields"]["fields"] for line in said] == ["checkpoint"], said
    assert world.condition("Reconciled")["status"] == "True"
