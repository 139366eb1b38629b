"""Length and checkpoints that change while a run trains: what is told, what is refused, when it goes on."""

from __future__ import annotations

from typing import Any

import pytest

from footplate_contracts.coordinator_state import RunState
from footplate_contracts.directives import Command, Directives, Limits, NumberedLimits
from footplate_contracts.failures import FailureReport
from footplate_contracts.names import Cause
from footplate_contracts.rendezvous import Heartbeat, JoinRequest
from footplate_contracts.reports import CheckpointRecord, GenerationId, RankPhase, RankReport, TelemetryItem
from footplate_elastic.coordinator.core import Coordinator
from footplate_elastic.coordinator.state import new_membership
from footplate_elastic.coordinator.telemetry import TelemetryBuffer
from footplate_elastic.coordinator.timing import Timing
from tests.unit.footplate_elastic.coordinator.story import agent, any_size, sealed_by_hand


def asked(steps: int, **more: int) -> Limits:
    return Limits.model_validate({"steps": steps, "every_steps": 10, "keep_last": 3, **more})


class Run:
    """One agent with one rank, of a run of 100 steps."""

    def __init__(self, epoch: int = 1, length: int = 100) -> None:
        membership = new_membership(epoch, 1, 2, 0.0, Timing())
        self.coordinator = Coordinator(
            membership, TelemetryBuffer(keep=False), lambda: 0.0, any_size, Directives(nodes=1)
        )
        self.coordinator.progress.total_steps = length
        self.now, self.port, self.saved = 0.0, 0, 0
        self.direct(limits=asked(length))

    def direct(self, **changes: Any) -> None:
        """The operator's word: what it said last, with `changes`."""
        self.coordinator.set_directives(self.coordinator.directives.model_copy(update=changes), self.now)

    @property
    def refusal(self) -> str:
        """Why the limits are not in force."""
        return self.coordinator.view().refusals.get("limits", "")

    @property
    def asked(self) -> Limits | None:
        """What the operator reads that the coordinator was told last."""
        directives = self.coordinator.view().directives
        return directives.limits if directives else None

    def join(self) -> None:
        """The ranks have ended, or never ran: ready for the next generation."""
        self.now, self.port = self.now + 1.0, self.port + 1
        last = self.coordinator.state.generation
        self.coordinator.join(
            JoinRequest(agent=agent(0), store_port=self.port, last_generation=last), self.now
        )

    def beat(
        self,
        step: int,
        ends: int,
        *,
        finished: bool = False,
        saved: bool = False,
        stepping: bool = True,
        running: GenerationId | None = None,
    ) -> None:
        """The rank has finished `step` of the `ends` that it knows of; not `stepping`: has loaded it."""
        self.now += 0.1
        phase = RankPhase.FINISHED if finished else RankPhase.COMPUTE
        seconds = 0.1 if stepping else None
        report = RankReport(rank=0, local_rank=0, step=step, phase=phase, step_seconds=seconds)
        self.saved += saved
        record = CheckpointRecord(step=step, uri=f"step-{step}", time=0.0)
        item = TelemetryItem(sequence=max(1, self.saved), checkpoint=record)
        members = sealed_by_hand(running, (0,)).members if running else []
        word = Heartbeat(
            agent=agent(0),
            generation=running or self.coordinator.state.generation,
            members=members,
            ranks=[report],
            total_steps=ends,
            outbox=[item] if saved else [],
            outbox_oldest=item.sequence,
            finished=finished,
        )
        self.coordinator.heartbeat(word, self.now)

    def told(self) -> NumberedLimits:
        """What the rank hears."""
        limits = self.coordinator.build_heartbeat_response(agent(0)).limits
        assert limits is not None
        return limits


def test_new_limits_are_told_to_ranks_and_to_whoever_starts_later() -> None:
    run = Run()
    run.join()
    sealed = run.coordinator.state.sealed
    assert sealed is not None and sealed.limits == run.told() and run.told().steps == 100
    before = run.coordinator.version
    run.direct(limits=asked(150, every_steps=5, keep_every_steps=50))
    assert run.coordinator.version > before
    assert (run.told().steps, run.told().every_steps, run.told().keep_every_steps) == (150, 5, 50)
    assert run.told().is_newer_than(sealed.limits)
    assert run.asked == asked(150, every_steps=5, keep_every_steps=50)
    run.join()
    assert run.coordinator.state.sealed is not None
    assert run.coordinator.state.sealed.limits == run.told()


def test_the_same_word_again_is_no_news() -> None:
    run = Run()
    run.join()
    told, version = run.told(), run.coordinator.version
    run.direct(limits=asked(100))
    assert (run.told(), run.coordinator.version) == (told, version)


def test_progress_tells_the_length_that_ranks_know() -> None:
    run = Run()
    run.join()
    run.beat(5, 100)
    run.direct(limits=asked(150))
    assert run.coordinator.view().progress.total_steps == 100
    run.beat(6, 150)
    assert run.coordinator.view().progress.total_steps == 150


@pytest.mark.parametrize(
    ("steps", "refused", "told"),
    [
        pytest.param(59, True, 100, id="in-the-past"),
        pytest.param(60, False, 60, id="here-and-now"),
        pytest.param(61, False, 61, id="ahead"),
    ],
)
def test_a_length_below_what_is_trained_is_refused_and_the_rest_holds(
    steps: int, refused: bool, told: int
) -> None:
    run = Run()
    run.join()
    run.beat(60, 100)
    run.direct(limits=asked(steps, keep_last=7))
    assert bool(run.refusal) == refused
    assert (run.told().steps, run.told().keep_last) == (told, 7)
    assert run.asked == asked(steps, keep_last=7), "the operator need not say it again"


def test_a_refusal_names_both_numbers() -> None:
    run = Run()
    run.join()
    run.beat(60, 100)
    run.direct(limits=asked(50))
    assert run.refusal == (
        "a training of 50 steps would end before step 60, which is already trained; the previous"
        " limit holds; raise training.steps or training.tokens"
    )
    run.direct(limits=asked(70))
    assert run.refusal == "" and run.told().steps == 70


def test_ranks_that_were_faster_than_the_word_keep_their_length() -> None:
    run = Run()
    run.join()
    run.beat(49, 100)
    run.direct(limits=asked(50))
    assert run.told().steps == 50
    run.beat(52, 100)
    assert run.refusal and run.told().steps == 100


def test_what_a_broken_generation_did_not_save_does_not_stand_against_a_shorter_length() -> None:
    run = Run()
    run.join()
    run.beat(40, 100, saved=True)
    run.beat(60, 100)
    run.direct(limits=asked(50))
    assert run.refusal
    run.join()
    run.coordinator.tick(run.now)
    assert not run.refusal and run.told().steps == 50
    run.direct(limits=asked(39))
    assert run.refusal, "step 40 is durable"


def test_a_length_below_what_was_loaded_stays_refused_when_the_next_generation_is_opened() -> None:
    run = Run(length=50)
    run.join()
    run.beat(0, 50, stepping=False)
    run.beat(60, 50, stepping=False, finished=True)
    for _ in range(2):
        run.coordinator.tick(run.now)
        assert run.coordinator.view().state is RunState.GATHERING
        assert run.refusal and run.told().steps == 60
    run.join()
    assert run.told().steps == 60, "though nobody has loaded anything yet"
    run.beat(60, 60, stepping=False, finished=True)
    run.coordinator.tick(run.now)
    assert run.coordinator.view().state is RunState.FINISHED


def test_ranks_that_ended_before_they_heard_go_on_from_their_last_checkpoint() -> None:
    run = Run()
    run.join()
    run.direct(limits=asked(150))
    run.beat(100, 100, finished=True, saved=True)
    assert run.coordinator.view().state is RunState.GATHERING
    assert (
        run.coordinator.build_heartbeat_response(agent(0)).rendezvous_open
        and not run.coordinator.build_heartbeat_response(agent(0)).closed
    )
    run.join()
    run.beat(150, 150, finished=True)
    run.coordinator.tick(run.now)
    assert run.coordinator.view().state is RunState.FINISHED
    assert run.coordinator.view().failures == []


def test_a_program_that_ends_when_it_likes_ends_the_run() -> None:
    run = Run()
    run.join()
    run.direct(limits=asked(150))
    run.join()
    run.beat(100, 150, finished=True)
    run.coordinator.tick(run.now)
    assert run.coordinator.view().state is RunState.FINISHED


def test_suspended_while_it_ends_it_is_not_finished_where_more_was_asked_for() -> None:
    run = Run()
    run.join()
    run.direct(limits=asked(150))
    run.direct(command=Command.CHECKPOINT_AND_EXIT)
    run.beat(100, 100, finished=True)
    assert run.coordinator.view().state is RunState.SUSPENDED


def test_what_comes_after_the_end_is_refused() -> None:
    run = Run()
    run.join()
    run.beat(100, 100, finished=True)
    run.direct(limits=asked(150))
    assert run.refusal == ("the run ended with step 100, before the request for 150 steps arrived")
    assert run.told().steps == 100


def test_a_replaced_coordinator_says_nothing_before_it_knows_who_trains() -> None:
    running, run = GenerationId(epoch=1, number=3), Run(epoch=2, length=50)
    assert run.coordinator.build_heartbeat_response(agent(0)).limits is None
    run.beat(60, 100, running=running)
    run.beat(61, 100, running=running)
    assert run.told().steps == 100 and run.told().epoch == 2
    assert run.refusal
    assert run.coordinator.view().progress.total_steps == 100


def test_a_replaced_coordinator_that_finds_all_ended_too_early_lets_them_go_on() -> None:
    running, run = GenerationId(epoch=1, number=3), Run(epoch=2, length=150)
    for _ in range(2):
        run.beat(100, 100, finished=True, running=running)
    assert run.coordinator.view().state is RunState.GATHERING
    run.join()
    assert run.coordinator.state.sealed is not None and run.coordinator.state.sealed.limits == run.told()


def test_the_operator_is_told_what_it_counts_failures_by() -> None:
    run = Run()
    run.join()
    for step in (10, 20, 30, 40):
        run.beat(step, 100, saved=True)
    report = FailureReport(cause=Cause.STORAGE, reason="StorageError", message="EIO", time=0.0)
    word = Heartbeat(agent=agent(0), generation=run.coordinator.state.generation, failure=report)
    run.coordinator.heartbeat(word, run.now)
    view = run.coordinator.view()
    assert (view.checkpoint_steps, view.failures_by_cause) == ([20, 30, 40], {"Storage": 1})
    assert view.failures[0].checkpoint_step == 40
