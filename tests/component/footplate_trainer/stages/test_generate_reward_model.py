"""Stage generate with a reward model: what it says of each answer as it is written, and the best by that."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import torch

from footplate_contracts.base import digest
from footplate_contracts.names import Env, ExitCode
from footplate_contracts.reports import RankPhase
from footplate_contracts.runconfig import RunConfig
from footplate_planning.memory import MemoryKind
from footplate_planning.plan import build_plan
from footplate_trainer.checkpoint.folder import LocalFolder
from footplate_trainer.commands.plan import frozen_shapes
from footplate_trainer.data.sample_shards import SampleShards
from footplate_trainer.data.shards import TokenShards
from footplate_trainer.frozen.source import find_model, network_config
from footplate_trainer.huggingface.initial import complete_config
from footplate_trainer.rewards.reward_samples import SampleKey
from footplate_trainer.rollout import journal
from footplate_trainer.rollout.journal_records import RewardsRecord, decode_records, key_of
from footplate_trainer.rollout.reward_model import MODEL
from tests.support.plain_llama import Sizes, outputs, random_weights, write
from tests.support.ranks import run_ranks
from tests.support.reinforced import GROUP, STOP, Interrupting, Reinforced, generate
from tests.support.rewards.plain_scores import EVEN, weights
from tests.support.rollout_layouts import LAYOUTS
from tests.support.scores import judged_prompts
from tests.support.tiny import tiny_config
from tests.support.training import FakeAgent

PROMPTS: Final = 10  # of which the third rollout asks the last 2
WEIGHT: Final = 2.0  # of the reward model
SHORT: Final = 0.5  # of the function
ALIKE: Final[Mapping[str, tuple[int, tuple[str, ...]]]] = {
    **{
        # A schedule wants a micro-batch for each of its stages.
        name: (ranks, (*more, *(("training.microBatchSize=1",) if "pipeline" in f"{name} {more}" else ())))
        for name, (ranks, more) in LAYOUTS.items()
        if not name.startswith("micro-batch")
    },
    "micro-batch-4": (1, ("training.globalBatchSize=8", "training.microBatchSize=4")),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders policy, judge and shards."""
    return judged_prompts(tmp_path_factory.mktemp("models"), PROMPTS)


def config_of(root: Path, folder: Path, *more: str) -> RunConfig:
    """3 rollouts of 16 answers, which the reward model reads 14 at a time: 12 are fillers at last."""
    function = f"{{name: short, weight: {SHORT}, length: {{tokens: 4}}}}"
    overrides = (
        "stage=generate",
        f"initFrom={{uri: {root / 'policy'}}}",
        "model={contextLength: 128}",
        f"rollout={{maxTokens: 24, numGenerations: {GROUP}, generationBatchSize: 16, stop: {STOP}}}",
        f"rollout.output={{uri: {folder / 'answers'}}}",
        f"reward={{uri: {root / 'judge'}, weight: {WEIGHT}, functions: [{function}]}}",
        "training.steps=3",
        "training.globalBatchSize=14",
        "training.microBatchSize=7",
        *more,
    )
    return tiny_config(root / "shards", folder, overrides)


def start(
    config: RunConfig, ranks: int = 1, agent: FakeAgent | None = None, generation: int = 1
) -> Reinforced:
    said = {Env.GENERATION: f"1.{generation}"}
    end: Reinforced = run_ranks(generate, ranks, agent or FakeAgent(), config, environment=said)[0]
    return end


def finished(config: RunConfig, ranks: int = 1, generation: int = 1) -> Reinforced:
    end = start(config, ranks, generation=generation)
    assert end.code == ExitCode.SUCCESS, end.stderr
    return end


@dataclass(frozen=True)
class Written:
    """A sample of the data set."""

    tokens: list[int]
    prompt: int  # tokens of it
    columns: dict[str, Any]

    @property
    def asked(self) -> tuple[int, ...]:
        return tuple(self.tokens[: self.prompt])


def written(folder: Path) -> list[Written]:
    samples = SampleShards(TokenShards.open(str(folder / "answers"), verify=(0, 1)))
    found = []
    for sample in (samples[number] for number in range(len(samples))):
        [document] = sample.documents
        found.append(Written(document.tokens.tolist(), document.prompt, dict(sample.columns or {})))
    return found


def content(folder: Path) -> dict[str, str]:
    """The digest of each file of the answers."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted((folder / "answers").iterdir())
    }


@pytest.fixture(scope="module")
def undisturbed(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    end = finished(config_of(root, folder))
    assert all(
        {"rewards/model", "rewards/short", "reward/sum"} <= row.values.keys() for row in end.agent.rows
    )
    return folder


def test_each_answer_has_the_score_of_the_text_that_is_written(root: Path, undisturbed: Path) -> None:
    """To the line end that the template has behind a turn, whether a text of `stop` or the model ended it."""
    samples = written(undisturbed)
    assert len({sample.tokens[-3] for sample in samples}) > 2, "texts have stopped some"
    for sample in samples:
        told = sample.columns["rewards"]
        with torch.inference_mode():
            score = outputs(weights(), sample.tokens, EVEN)[-1, 0].item()
        assert told["model"] == pytest.approx(score, abs=1e-5)
        assert sample.columns["reward"] == pytest.approx(WEIGHT * told["model"] + SHORT * told["short"])
    record = TokenShards.open(str(undisturbed / "answers")).manifest.generated
    assert record is not None
    assert (record.reward_from, record.reward_step) == (str(root / "judge"), None)
    assert record.reward not in (None, record.weights)
    judge = find_model(str(root / "judge"), "reward.uri").model
    assert record.reward_configuration == digest([digest(network_config(judge)), None])


def test_no_id_is_written_that_the_data_does_not_have(root: Path, tmp_path: Path) -> None:
    """Nor is one read by the reward model: three of four rows of this policy are no token's."""
    grown = f"model={{contextLength: 46, vocabularySize: {4 * EVEN.vocabulary}, resizeTokenEmbeddings: true}}"
    end = finished(config_of(root, tmp_path, grown, "training.steps=1", "training.schedule={name: constant}"))
    assert "prompts leave an answer less than rollout.maxTokens 24" in end.stderr
    known = TokenShards.open(str(tmp_path / "answers")).vocabulary_size
    assert max(max(sample.tokens) for sample in written(tmp_path)) < known < EVEN.vocabulary


def test_the_best_answer_to_a_prompt_is_the_one_of_the_highest_sum(
    root: Path, undisturbed: Path, tmp_path: Path
) -> None:
    finished(config_of(root, tmp_path, "rollout.output.best=1"))
    every = written(undisturbed)
    best = {
        prompt: max((sample for sample in every if sample.asked == prompt), key=_sum).tokens
        for prompt in {sample.asked for sample in every}
    }
    assert {sample.asked: sample.tokens for sample in written(tmp_path)} == best
    lengths = {
        prompt: min(len(sample.tokens) for sample in every if sample.asked == prompt) for prompt in best
    }
    assert any(len(best[prompt]) > lengths[prompt] for prompt in best), (
        "the function alone would say the same"
    )


def _sum(sample: Written) -> float:
    return float(sample.columns["reward"])


@pytest.mark.parametrize(
    "layout",
    [pytest.param(name, marks=() if name in ("two", "tensor") else pytest.mark.long) for name in ALIKE],
)
def test_any_layout_is_one_process(layout: str, root: Path, undisturbed: Path, tmp_path: Path) -> None:
    ranks, more = ALIKE[layout]
    finished(config_of(root, tmp_path, *more), ranks)
    mine, alone = written(tmp_path), written(undisturbed)
    assert [sample.tokens for sample in mine] == [sample.tokens for sample in alone]
    for found, expected in zip(mine, alone, strict=True):
        assert found.columns["rewards"] == pytest.approx(expected.columns["rewards"], abs=1e-5)


def test_a_score_that_is_kept_is_not_asked_for_again(root: Path, tmp_path: Path) -> None:
    """Nor is one computed twice, of which the bits would be those of whoever was read last."""
    calm = tmp_path / "calm"
    finished(config_of(root, calm), 2)
    config = config_of(root, tmp_path)
    agent = Interrupting(phase=RankPhase.SCORING, after_step=1, looks=2)
    assert start(config, 2, agent).code == ExitCode.SUSPENDED
    first = scored(tmp_path, 1)
    assert 0 < len(first) < 16, "it was to be interrupted between two batches"
    later = Interrupting(phase=RankPhase.ROLLOUT, after_step=2, looks=2)
    assert start(config, 2, later, generation=2).code == ExitCode.SUSPENDED
    assert set(scored(tmp_path, 1).values()) == {1}
    finished(config, 2, generation=3)
    assert content(tmp_path) == content(calm)


@pytest.mark.parametrize("field", ["reward.uri", "initFrom.uri"])
def test_a_start_that_finds_its_answers_needs_no_model(
    field: str, root: Path, undisturbed: Path, tmp_path: Path
) -> None:
    before = content(undisturbed)
    end = finished(config_of(root, undisturbed, f"{field}={tmp_path / 'gone'}"))
    assert (end.agent.rows, end.agent.reports[-1].step) == ([], 3)
    assert content(undisturbed) == before


@pytest.mark.parametrize(
    ("ranks", "more"),
    [
        pytest.param(
            1,
            (
                "rollout.numGenerations=2",
                "rollout.generationBatchSize=6",
                "training.globalBatchSize=8",
                "training.microBatchSize=4",
            ),
            id="no-multiple-of-micro-batches",
        ),
        pytest.param(
            2,
            (
                "rollout.numGenerations=1",
                "rollout.generationBatchSize=1",
                "training.globalBatchSize=4",
                "training.microBatchSize=1",
                "parallelism={pipeline: 2}",
            ),
            id="one-for-two-pipeline-stages",
        ),
    ],
)
def test_a_rollout_of_fewer_answers_than_a_batch_is_scored(
    ranks: int, more: tuple[str, ...], root: Path, tmp_path: Path
) -> None:
    once = ("training.steps=1", "training.schedule={name: constant}")
    finished(config_of(root, tmp_path, *once, *more), ranks)
    samples = written(tmp_path)
    for sample in samples:
        with torch.inference_mode():
            score = outputs(weights(), sample.tokens, EVEN)[-1, 0].item()
        assert sample.columns["rewards"]["model"] == pytest.approx(score, abs=1e-5)


@pytest.mark.long
def test_a_run_that_is_killed_while_it_scores_writes_what_it_would_have_written(
    root: Path, undisturbed: Path, tmp_path: Path
) -> None:
    agent = Interrupting(phase=RankPhase.SCORING, after_step=1, looks=3, kills=True)
    with pytest.raises(AssertionError, match="ended without an answer"):
        start(config_of(root, tmp_path), agent=agent)
    finished(config_of(root, tmp_path))
    assert content(tmp_path) == content(undisturbed)


def scored(folder: Path, step: int) -> Counter[SampleKey]:
    """How often files of the rollout that began after `step` have a score of each answer."""
    store, found = LocalFolder(str(folder / "checkpoints")), Counter[SampleKey]()
    for file in journal.list_journal_files(store, step):
        content = store.read(file.name)
        key = key_of(content)
        assert key is not None
        for record in decode_records(content, key)[0]:
            if isinstance(record, RewardsRecord) and MODEL in record.values:
                found[record.key] += 1
    return found


def test_another_reward_model_is_asked_about_answers_that_are_there(root: Path, tmp_path: Path) -> None:
    agent = Interrupting(phase=RankPhase.ROLLOUT, after_step=1, looks=2)
    assert start(config_of(root, tmp_path), agent=agent).code == ExitCode.SUSPENDED
    write(tmp_path / "judge", random_weights(18, "score", EVEN), EVEN)
    end = finished(config_of(root, tmp_path, f"reward.uri={tmp_path / 'judge'}"))
    assert "rollout/tokens" not in (end.agent.rows[0].values or {}), "the first rollout was drawn again"
    other = random_weights(18, "score", EVEN)
    for sample in written(tmp_path):
        with torch.inference_mode():
            score = outputs(other, sample.tokens, EVEN)[-1, 0].item()
        assert sample.columns["rewards"]["model"] == pytest.approx(score, abs=1e-5)


@pytest.mark.parametrize(
    ("sizes", "head", "how", "complaint"),
    [
        pytest.param(
            EVEN, "lm_head", "none", "returns no scores per text, but 1 is needed", id="that-writes-texts"
        ),
        pytest.param(
            EVEN,
            "score",
            "heldOut",
            "it has no held-out scores; set validation in the run of stage reward, or set "
            "reward.normalization to none",
            id="never-validated",
        ),
        pytest.param(
            Sizes(vocabulary=200),
            "score",
            "none",
            "its vocabulary has 200 ids, but the data has 259",
            id="of-another-vocabulary",
        ),
    ],
)
def test_a_reward_model_that_does_not_fit_is_refused_by_name(
    sizes: Sizes, head: str, how: str, complaint: str, root: Path, tmp_path: Path
) -> None:
    write(tmp_path / "other", random_weights(3, head, sizes), sizes)
    stated = (f"reward.uri={tmp_path / 'other'}", f"reward.normalization={how}")
    end = start(config_of(root, tmp_path, *stated))
    assert end.code == ExitCode.CONFIG, end.stderr
    assert f"reward.uri {tmp_path / 'other'}: " in end.stderr
    assert complaint in end.stderr
    assert not (tmp_path / "answers").exists()


def test_a_plan_counts_it(root: Path, tmp_path: Path) -> None:
    config = complete_config(config_of(root, tmp_path))
    shapes = frozen_shapes(config, 1)
    assert [shape.labels for shape in shapes] == [1]
    [alone], [both] = build_plan(config, 1, "cuda").ranks, build_plan(config, 1, "cuda", shapes).ranks
    more = both.memory.bytes[MemoryKind.FROZEN]
    assert 0 < more == both.memory.resident - alone.memory.resident


def test_a_plan_counts_what_it_reads_at_once(root: Path, tmp_path: Path) -> None:
    """Of what else a rank holds while it scores, which is more than its shards."""
    peaks = []
    for sequences in (1, 4):
        batch = ("training.globalBatchSize=4", f"training.microBatchSize={sequences}")
        config = complete_config(config_of(root, tmp_path, *batch))
        [rank] = build_plan(config, 1, "cuda", frozen_shapes(config, 1)).ranks
        peaks.append(rank.memory.peak - rank.memory.resident)
    assert peaks[1] == 4 * peaks[0] > 0, "one rank in fp32 gathers nothing"
