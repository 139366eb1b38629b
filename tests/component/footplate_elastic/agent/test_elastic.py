"""The whole elastic path with real processes: what is killed, and who goes on from where."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from footplate_contracts.coordinator_state import CoordinatorState, RunState
from footplate_contracts.directives import Command
from footplate_contracts.names import FIRST_SPARE, Cause, Env, ExitCode
from footplate_contracts.reports import GenerationId
from footplate_elastic.protocol.unstored_rows import MOST_WITH_SAMPLES
from tests.component.footplate_elastic.agent.gang import FakeApi, Gang, alive, eventually
from tests.component.footplate_elastic.agent.small_rank import shown
from tests.support.tiny import pack_tiny, tiny_config

FIRST = GenerationId(epoch=1, number=1)
SECOND = GenerationId(epoch=1, number=2)


@pytest.fixture
def gang(gang: Gang) -> Gang:
    """One whose processes need not import what they do."""
    gang.forked = True
    return gang


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Gang]:
    """One node's two ranks, started as in a pod."""
    made = Gang(tmp_path, nodes=1)
    yield made
    made.close()


def training_in(generation: GenerationId, step: int = 0) -> Callable[[CoordinatorState], bool]:
    def look(state: CoordinatorState) -> bool:
        return (
            state.state is RunState.TRAINING
            and state.generation == generation
            and state.progress.step >= step
        )

    return look


def finished(state: CoordinatorState) -> bool:
    return state.state is RunState.FINISHED


def test_a_run_finishes_and_its_agent_ends_with_success(alone: Gang) -> None:
    alone.steps = 20
    [agent] = alone.start()
    state = alone.wait_for(finished)
    assert agent.wait(30) == ExitCode.SUCCESS
    assert state.progress.step == 20
    assert state.checkpoint is not None and state.checkpoint.step == 20


def test_neither_the_runs_token_nor_that_for_the_api_travels_in_clear(gang: Gang, api: FakeApi) -> None:
    (gang.directory / "api-token").write_text("for the API alone")
    gang.extra[str(Env.API_URL)] = api.url
    gang.extra[str(Env.API_TOKEN_FILE)] = str(gang.directory / "api-token")
    gang.steps = 20
    agents = gang.start()
    state = gang.wait_for(finished)
    assert [agent.wait(30) for agent in agents] == [ExitCode.SUCCESS, ExitCode.SUCCESS]
    assert state.progress.step == 20
    assert state.checkpoint is not None and state.checkpoint.step == 20
    eventually(lambda: sorted(api.rows) == list(range(1, 21)))
    assert api.heard == {None}  # over TLS it is shown its own: coordinator/test_shipping.py


def test_ranks_hear_which_rows_the_api_has(gang: Gang, api: FakeApi, tmp_path: Path) -> None:
    api.away = True
    gang.extra[str(Env.API_URL)] = api.url
    (tmp_path / "hold-7").touch()
    gang.start()
    eventually(lambda: (tmp_path / "unstored-7").exists())
    assert not (tmp_path / "unstored-0").exists()
    api.away = False
    eventually(lambda: (tmp_path / "unstored-0").exists())
    assert {step: row.samples for step, row in api.rows.items()} == {
        step: [shown(step)] for step in range(1, 8)
    }


def test_a_killed_rank_restarts_all_ranks_in_place(gang: Gang) -> None:
    agents = gang.start()
    gang.wait_for(training_in(FIRST, 7))
    before = gang.children(0) + gang.children(1)
    os.kill(before[3], signal.SIGKILL)
    state = gang.wait_for(training_in(SECOND))
    assert state.start_step is not None and state.start_step >= 5
    assert [agent.poll() for agent in agents] == [None, None]
    assert not set(before) & set(gang.children(0) + gang.children(1))
    [failure] = state.failures
    report = failure.failure
    assert (report.cause, report.reason) == (Cause.COMMUNICATION, "RankKilled"), failure
    assert (report.rank, report.exit_code, failure.agent.index) == (3, -9, 1)


def test_a_rank_that_stands_still_is_missed_and_all_ranks_start_again(gang: Gang) -> None:
    gang.hang_seconds = 5  # of a machine that is busy with other tests
    agents = gang.start()
    gang.wait_for(training_in(FIRST, 7))
    os.kill(gang.children(1)[0], signal.SIGSTOP)
    state = gang.wait_for(training_in(SECOND))
    [failure] = state.failures
    assert (failure.failure.cause, failure.failure.reason) == (Cause.HANG, "ProgressDeadlineExceeded")
    assert [agent.poll() for agent in agents] == [None, None]


@pytest.mark.parametrize(
    "victim", [pytest.param(0, id="host of the store"), pytest.param(1, id="other", marks=pytest.mark.long)]
)
def test_a_killed_agent_takes_its_ranks_along_and_a_substitute_joins(gang: Gang, victim: int) -> None:
    gang.forked = False  # its ranks end by themselves
    agents = gang.start()
    gang.wait_for(training_in(FIRST, 7))
    ranks = gang.children(0) + gang.children(1)
    agents[victim].kill()
    gone = gang.wait_for(lambda state: state.missing == [victim])
    assert gone.failures[0].failure.cause is Cause.NODE_LOST
    gang.start_agent(victim, incarnation=1)
    state = gang.wait_for(training_in(SECOND))
    assert [member.agent.incarnation for member in state.members] == [int(i == victim) for i in (0, 1)]
    assert len(state.failures) == 1
    assert agents[1 - victim].poll() is None
    eventually(lambda: not any(map(alive, ranks)))


@pytest.mark.long
def test_a_spare_takes_the_slot_of_a_killed_agent_and_is_missed_like_any_other(gang: Gang) -> None:
    agents = gang.start()
    spare = gang.start_agent(FIRST_SPARE)
    gang.wait_for(lambda state: [agent.is_spare for agent in state.waiting] == [True])
    gang.wait_for(training_in(FIRST, 7))
    agents[1].kill()
    state = gang.wait_for(training_in(SECOND))
    assert [member.agent.pod_name for member in state.members] == ["gang-w0-0", f"gang-w{FIRST_SPARE}-0"]
    assert [member.agent.index for member in state.members] == [0, 1]
    assert state.waiting == []
    goal = state.progress.step + 5
    gang.wait_for(training_in(SECOND, goal))
    spare.kill()
    state = gang.wait_for(lambda state: state.missing == [1])
    assert [failure.agent.index for failure in state.failures] == [1, 1]
    assert agents[0].poll() is None


@pytest.mark.long
def test_a_replaced_coordinator_disturbs_nobody_and_loses_no_row(
    gang: Gang, api: FakeApi, tmp_path: Path
) -> None:
    api.away = True  # so that every row of the first half is still in memory when the coordinator dies
    gang.extra[str(Env.API_URL)] = api.url
    gang.steps = 200
    hold = tmp_path / "hold-100"
    hold.touch()
    agents = gang.start()
    gang.wait_for(training_in(FIRST, 7))
    before = gang.children(0) + gang.children(1)
    gang.processes[0].kill()
    gang.processes[0].wait()
    api.away = False
    coordinator = gang.start_coordinator(epoch=2)
    state = gang.wait_for(training_in(FIRST, 30))
    assert state.epoch == 2
    assert gang.children(0) + gang.children(1) == before
    hold.unlink()
    assert gang.wait_for(finished).progress.step == gang.steps
    assert [agent.wait(30) for agent in agents] == [0, 0]
    coordinator.terminate()
    assert coordinator.wait(30) == 0
    assert sorted(api.rows) == list(range(1, gang.steps + 1))
    assert {row.generation for row in api.rows.values()} == {FIRST}
    assert all(row.samples == [shown(step)] for step, row in api.rows.items())
    assert api.checkpoints == set(range(5, gang.steps + 1, 5))


@pytest.mark.long
def test_a_frozen_agent_is_lost_and_comes_back(gang: Gang) -> None:
    agents = gang.start()
    gang.wait_for(training_in(FIRST, 7))
    agents[1].send_signal(signal.SIGSTOP)
    state = gang.wait_for(lambda state: state.missing == [1])
    assert state.failures[0].failure.cause is Cause.NODE_LOST
    agents[1].send_signal(signal.SIGCONT)
    state = gang.wait_for(training_in(SECOND))
    assert [member.agent.incarnation for member in state.members] == [0, 0]


def test_the_users_error_is_listed_once_with_its_message(gang: Gang) -> None:
    (gang.directory / "crash-7").touch()
    gang.start()
    state = gang.wait_for(training_in(SECOND))
    [failure] = state.failures
    assert (failure.failure.cause, failure.failure.rank) == (Cause.USER_ERROR, 1)
    assert "ZeroDivisionError: told to crash before step 8" in failure.failure.message
    assert failure.generation == FIRST


@pytest.mark.long
def test_a_rank_that_always_crashes_is_restarted_ever_more_slowly(gang: Gang) -> None:
    (gang.directory / "crash-always").touch()
    gang.start()
    gang.wait_for(lambda state: len(state.failures) >= 3)
    state = gang.wait_for(lambda state: len(state.failures) >= 4)
    times = [entry.failure.time for entry in state.failures]
    assert times[3] - times[2] >= 1.0
    assert {entry.failure.cause for entry in state.failures} == {Cause.USER_ERROR}


def test_a_suspension_saves_first_and_all_agents_say_so(gang: Gang) -> None:
    agents = gang.start()
    gang.wait_for(training_in(FIRST, 7))
    gang.direct(command=Command.CHECKPOINT_AND_EXIT)
    state = gang.wait_for(lambda state: state.state is RunState.SUSPENDED)
    assert [agent.wait(30) for agent in agents] == [ExitCode.SUSPENDED, ExitCode.SUSPENDED]
    assert state.checkpoint is not None and state.checkpoint.step >= 7
    assert state.failures == []


def test_an_agent_that_is_told_to_end_leaves_once_all_have_saved(gang: Gang) -> None:
    agents = gang.start()
    gang.wait_for(training_in(FIRST, 7))
    agents[1].terminate()
    assert agents[1].wait(10) == 143
    state = gang.wait_for(lambda state: state.missing == [1])
    assert state.checkpoint is not None and state.checkpoint.step == state.progress.step >= 7
    [failure] = state.failures
    assert (failure.failure.cause, failure.failure.reason) == (Cause.NODE_LOST, "PodDeleted")


@pytest.mark.long
def test_an_agent_that_is_told_to_end_waits_for_no_coordinator_that_is_gone(gang: Gang) -> None:
    agents = gang.start()
    gang.wait_for(training_in(FIRST, 7))
    gang.processes[0].terminate()
    assert gang.processes[0].wait(10) == 0
    agents[1].terminate()
    assert agents[1].wait(20) == 143


@pytest.mark.long
def test_an_old_incarnation_is_evicted(gang: Gang) -> None:
    agents = gang.start()
    gang.wait_for(training_in(FIRST, 7))
    gang.start_agent(1, incarnation=1)
    assert agents[1].wait(90) == ExitCode.STALE
    gang.wait_for(training_in(SECOND))


def test_ranks_that_cannot_be_imported_end_the_agent_with_the_code_for_configuration(gang: Gang) -> None:
    gang.start_coordinator()
    gang.warm = ["no_such_module"]
    agent = gang.start_agent(0)
    assert agent.wait(60) == ExitCode.CONFIG
    state = gang.wait_for(lambda state: bool(state.failures))
    assert state.failures[0].failure.cause is Cause.IMAGE_OR_CONFIG
    assert "no_such_module" in state.failures[0].failure.message


def test_an_agent_whose_device_is_broken_gives_its_place_up(gang: Gang) -> None:
    agents = gang.start()
    gang.wait_for(training_in(FIRST, 7))
    (gang.directory / "crash-gpu").touch()
    assert agents[0].wait(60) == ExitCode.GPU_ERROR
    state = gang.wait_for(lambda state: state.missing == [0])
    [failure] = state.failures
    assert (failure.failure.cause, failure.failure.reason) == (Cause.NODE_LOST, "GpuError")
    assert agents[1].poll() is None


@pytest.mark.long
@pytest.mark.parametrize(
    "saved", ["checkpoint.everySteps=30", "checkpoint.memory.everySteps=1"], ids=["durable", "in-memory"]
)
def test_rows_outlive_the_coordinator_and_the_agent_of_rank_0(
    gang: Gang, api: FakeApi, tmp_path: Path, saved: str
) -> None:
    usual = ["training.steps=60", "checkpoint.everySteps=100000"]
    gang.use_trainer(tiny_config(pack_tiny(tmp_path), tmp_path, [*usual, saved]))
    gang.entry = "held_rank:run"
    api.away = True  # so that nobody else has the rows by then
    gang.extra[str(Env.API_URL)] = api.url
    (tmp_path / "hold-31").touch()
    agents = gang.start()
    if "memory" not in saved:
        gang.wait_for(lambda state: state.checkpoint is not None)
    eventually(lambda: all((tmp_path / f"hold-31.{rank}").exists() for rank in range(4)))
    ranks = gang.children(0)
    for process in (gang.processes[0], agents[0]):
        process.kill()
        process.wait()
    eventually(lambda: not any(map(alive, ranks)))
    api.away = False
    (tmp_path / "hold-31").unlink()
    coordinator = gang.start_coordinator(epoch=2)
    agents[0] = gang.start_agent(0, incarnation=1)
    state = gang.wait_for(finished)
    assert state.start_step in (29, 30)  # the partner may not have had the last copy yet
    coordinator.terminate()
    assert [process.wait(60) for process in (coordinator, *agents)] == [0, 0, 0]
    assert sorted(api.rows) == list(range(1, 61))
    computed_by = [api.rows[step].generation for step in range(1, 61)]
    assert computed_by == [FIRST] * state.start_step + [state.generation] * (60 - state.start_step)
    # Its trainer shows none by itself; of what a checkpoint carries the newest rows have theirs.
    with_samples = [step for step in range(1, 61) if api.rows[step].samples == [shown(step)]]
    assert with_samples == list(range(state.start_step - MOST_WITH_SAMPLES + 1, 61))


@pytest.mark.long
def test_the_trainer_itself_goes_on_from_its_checkpoint(gang: Gang, tmp_path: Path) -> None:
    gang.use_trainer(
        tiny_config(pack_tiny(tmp_path), tmp_path, ["training.steps=120", "checkpoint.everySteps=20"])
    )
    gang.entry = "held_rank:run"
    hold = tmp_path / "hold-31"
    hold.touch()
    agents = gang.start()
    gang.wait_for(lambda state: state.checkpoint is not None and state.progress.step == 30)
    os.kill(gang.children(1)[0], signal.SIGKILL)
    hold.unlink()
    state = gang.wait_for(finished)
    assert [agent.wait(60) for agent in agents] == [0, 0]
    assert state.generation == SECOND
    assert state.start_step is not None and state.start_step >= 20
    assert state.progress.step == 120
    assert len(state.failures) == 1
    assert "[rank 0]" in gang.log("agent-0-0")
