"""grpo on real ranks: any layout as one process, and a run that is interrupted as one that is not."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from footplate_contracts.names import ExitCode
from footplate_contracts.reports import RankPhase
from footplate_trainer.checkpoint.folder import LocalFolder
from footplate_trainer.rewards.reward_samples import SampleKey
from footplate_trainer.rollout import journal
from footplate_trainer.rollout.journal_files import FOLDER
from footplate_trainer.rollout.journal_records import ScoresRecord, decode_records, key_of
from tests.support.ranks import run_ranks
from tests.support.reinforced import (
    MOMENTS,
    History,
    Interrupting,
    Reinforced,
    finished,
    grpo_config,
    history,
    kept_in,
    killed_and_resumed,
    pack_prompts,
    reinforce,
)
from tests.support.rewards import wrong
from tests.support.training import FakeAgent

# Each answer twice, in four steps, and others in the place of groups that teach nothing.
STEPS: Final = 8
REWARDS: Final = Path(wrong.__file__).parent  # whose modules processes of functions import
TWICE: Final = (
    "rollout.generationBatchSize=16",
    "reinforcement={numIterations: 2, preset: dapo}",
    f"training.steps={STEPS}",
    "checkpoint.everySteps=1",
    "checkpoint.keepLast=1",
    "training.optimizer={name: sgd, learningRate: 0.5}",
)


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack_prompts(tmp_path_factory.mktemp("prompts"))


def start(prompts: Path, folder: Path, ranks: int, agent: FakeAgent, *more: str) -> Reinforced:
    """One start of the run, to whatever end."""
    return run_ranks(reinforce, ranks, agent, grpo_config(prompts, folder, *TWICE, *more))[0]


@pytest.fixture(scope="module")
def undisturbed(prompts: Path, tmp_path_factory: pytest.TempPathFactory) -> History:
    folder = tmp_path_factory.mktemp("undisturbed")
    end = start(prompts, folder, 1, FakeAgent())
    assert end.code == ExitCode.SUCCESS, end.stderr
    made = history(folder, STEPS, end)
    assert any(row.values["policy/ratio"] != 1 for row in end.agent.rows), "no second update moved anything"
    assert list((folder / "checkpoints" / FOLDER).iterdir()) == [], "journals stay behind"
    assert made.shown.keys() == set(range(1, STEPS + 1)), "each step shows some of what it learns from"
    assert [row.step for row in end.agent.rows if "rollout/tokens_per_second" in row.values] == [1, 5]
    return made


# -- layouts ------------------------------------------------------------------------------------------


# All others are those of test_rollout_layouts.py.
LAYOUTS: Final = {
    "two": (2, ()),
    "drawn-by-tensor": (2, ("rollout.parallelism={tensor: 2}",)),
    "cube-drawn-by-pipeline": (
        8,
        ("parallelism={tensor: 2, pipeline: 2, sharding: full}", "rollout.parallelism={pipeline: 2}"),
    ),
    "full-drawn-by-both": (4, ("rollout.parallelism={tensor: 2, pipeline: 2}",)),
    "drawn-by-pipeline-ranks": (4, ("parallelism={tensor: 2}", "rollout.parallelism={pipeline: 2}")),
}


@pytest.mark.long  # quick ones are runs below that are killed and go on with other ranks
@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_layout_is_one_process(layout: str, undisturbed: History, prompts: Path, tmp_path: Path) -> None:
    ranks, more = LAYOUTS[layout]
    end = start(prompts, tmp_path, ranks, FakeAgent(), *more)
    assert end.code == ExitCode.SUCCESS, end.stderr
    history(tmp_path, STEPS, end).check_equal(undisturbed)


@pytest.mark.parametrize(
    ("ranks", "more"),
    [
        pytest.param(2, (), id="two"),
        pytest.param(1, ("reinforcement.kl.coefficient=0.1",), id="beside-a-reference"),
        pytest.param(1, ("training.microBatchSize=4",), id="alone-in-other-rows", marks=pytest.mark.long),
        pytest.param(
            4,
            ("parallelism={tensor: 2, sharding: full}", "rollout.parallelism={tensor: 2}"),
            id="tensor",
            marks=pytest.mark.long,
        ),
        pytest.param(2, ("training.precision=bf16",), id="bf16", marks=pytest.mark.long),
        pytest.param(2, ("parallelism={pipeline: 2}",), id="pipeline", marks=pytest.mark.long),
    ],
)
def test_what_is_trained_is_bit_by_bit_what_was_sampled(
    ranks: int, more: tuple[str, ...], prompts: Path, tmp_path: Path
) -> None:
    """The first of the updates of a rollout sees the weights that its answers were drawn with."""
    end = start(prompts, tmp_path, ranks, FakeAgent(), "rollout.batchInvariant=true", *more)
    assert end.code == ExitCode.SUCCESS, end.stderr
    first, second = (row for row in end.agent.rows if row.step in (1, 2))
    assert (first.values["policy/ratio"], first.values["kl/sampler"]) == (1.0, 0.0)
    assert first.values.get("kl/reference", 0.0) == 0.0, "which is the start"
    assert ("kl/reference" in first.values) == any("kl" in asked for asked in more)
    assert second.values["kl/sampler"] != 0.0


# -- interruptions --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("moment", "before", "after"),
    [
        pytest.param("drawing", 2, 1, id="drawing"),
        pytest.param("between-updates", 1, 2, id="between-updates"),
        pytest.param("scoring", 1, 1, id="scoring"),
        pytest.param("drawing-the-first", 2, 2, id="drawing-the-first", marks=pytest.mark.long),
        pytest.param("drawing", 1, 3, id="drawing-and-more-ranks", marks=pytest.mark.long),
        pytest.param("between-updates", 3, 1, id="between-updates-and-fewer", marks=pytest.mark.long),
        pytest.param("scoring", 2, 2, id="scoring-on-two", marks=pytest.mark.long),
    ],
)
def test_a_run_that_is_killed_goes_on_as_if_it_had_not_been(
    moment: str, before: int, after: int, undisturbed: History, prompts: Path, tmp_path: Path
) -> None:
    config = grpo_config(prompts, tmp_path, *TWICE)
    again = killed_and_resumed(config, tmp_path, undisturbed, MOMENTS[moment], before, after)
    again.check_equal(undisturbed)
    assert again.shown.keys() == undisturbed.shown.keys(), "a checkpoint carries samples with their rows"


@pytest.mark.parametrize("moment", ["drawing", pytest.param("drawing-the-first", marks=pytest.mark.long)])
def test_a_suspension_in_the_middle_of_a_rollout_keeps_what_is_finished(
    moment: str, undisturbed: History, prompts: Path, tmp_path: Path
) -> None:
    planned = MOMENTS[moment]
    agent = Interrupting(phase=planned.phase, after_step=planned.after_step, looks=planned.looks)
    suspended = start(prompts, tmp_path, 2, agent)
    assert suspended.code == ExitCode.SUSPENDED, suspended.stderr
    assert len(suspended.agent.rows) == planned.after_step
    finished = len(kept_in(tmp_path, planned.after_step).samples)
    assert 0 < finished < 16
    end = start(prompts, tmp_path, 1, FakeAgent())
    assert end.code == ExitCode.SUCCESS, end.stderr
    assert end.drawn[planned.after_step] == undisturbed.drawn[planned.after_step] - finished
    history(tmp_path, STEPS, suspended, end).check_equal(undisturbed)
    anew = start(prompts, tmp_path, 1, FakeAgent())
    assert (anew.agent.rows, [record.step for record in anew.agent.checkpoints]) == ([], [STEPS])


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param(Interrupting(phase=RankPhase.COMPUTE, after_step=2), id="between-updates"),
        pytest.param(Interrupting(phase=RankPhase.SCORING), id="scoring", marks=pytest.mark.long),
    ],
)
def test_no_reward_is_asked_twice_for_an_answer_that_it_has_rewarded(
    moment: Interrupting, tmp_path: Path
) -> None:
    """A run of one rollout, with a function of one's own that notes what it is asked."""
    functions = (
        "[{name: short, length: {tokens: 4}}, {name: noted, weight: 0, function: {name: 'wrong:sums'}}]"
    )
    settings = (
        "rollout.generationBatchSize=16",
        "reinforcement.numIterations=2",
        "training.steps=4",
        "checkpoint.everySteps=1",
    )
    config = grpo_config(pack_prompts(tmp_path), tmp_path / "run", *settings, f"reward.functions={functions}")
    environment, asked = {"PYTHONPATH": str(REWARDS)}, tmp_path / "asked"
    with pytest.raises(AssertionError, match="ended without an answer"):
        run_ranks(reinforce, 2, replace(moment, kills=True, rank=1), config, environment=environment)
    rewards = kept_in(tmp_path / "run", 0).rewards.values()
    rewarded, before = sum("noted" in told for told in rewards), asked.stat().st_size
    assert rewarded == 16 or moment.phase is RankPhase.SCORING
    end = run_ranks(reinforce, 2, FakeAgent(), config, environment=environment)[0]
    assert end.code == ExitCode.SUCCESS, end.stderr
    assert asked.stat().st_size - before == 16 - rewarded


def test_a_run_that_goes_on_with_another_coefficient_learns_with_it(prompts: Path, tmp_path: Path) -> None:
    """Of a KL without a target, from the next step on: here within a rollout."""
    often = ("reinforcement.numIterations=3", "training.steps=3")
    first, second = (
        grpo_config(prompts, tmp_path, *often, f"reinforcement.kl.coefficient={stated}")
        for stated in (0.02, 0.5)
    )
    agent = Interrupting(phase=RankPhase.COMPUTE, after_step=1)
    suspended = run_ranks(reinforce, 1, agent, first)[0]
    assert suspended.code == ExitCode.SUSPENDED, suspended.stderr
    rows = [*suspended.agent.rows, *finished(second).agent.rows]
    assert [(row.step, row.values["kl/coefficient"]) for row in rows] == [
        (1, 0.02),
        (2, 0.02),
        (3, 0.5),
    ]


def test_a_log_probability_is_computed_once_where_a_rollout_is_no_multiple_of_steps(tmp_path: Path) -> None:
    """Three steps of two epochs of 12 answers, of which the second begins within a step."""
    settings = (
        "rollout.generationBatchSize=12",
        "reinforcement.numIterations=2",
        "training.steps=3",
        "training.schedule={name: constant}",
    )
    config = grpo_config(pack_prompts(tmp_path), tmp_path / "run", *settings)
    agent = Interrupting(phase=RankPhase.COMPUTE, after_step=1)
    assert run_ranks(reinforce, 1, agent, config)[0].code == ExitCode.SUSPENDED
    store, found = LocalFolder(str(tmp_path / "run" / "checkpoints")), Counter[SampleKey]()
    for file in journal.list_journal_files(store, 0):
        content = store.read(file.name)
        key = key_of(content)
        assert key is not None
        found.update(told.key for told in decode_records(content, key)[0] if isinstance(told, ScoresRecord))
    assert len(found) == 12 and set(found.values()) == {1}
