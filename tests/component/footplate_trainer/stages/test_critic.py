"""The value model of ppo: what it is of the model that it begins as, and what a restart needs for it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
import torch

from footplate_contracts.names import ExitCode
from footplate_contracts.runconfig import RunConfig
from footplate_trainer.data.layout import ShardFormat
from tests.support.chat import user
from tests.support.plain_llama import Sizes, random_weights, write
from tests.support.ranks import run_ranks
from tests.support.reinforced import STOP, Reinforced, reinforce
from tests.support.stages import pack_conversations, preferences
from tests.support.tiny import tiny_config
from tests.support.training import Ended, FakeAgent, train_under

SIZES: Final = Sizes(vocabulary=260)


@dataclass(frozen=True)
class Folders:
    """What runs begin with."""

    policy: Path
    prompts: Path
    pairs: Path


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    root = tmp_path_factory.mktemp("models")
    policy = write(root / "policy", random_weights(7, sizes=SIZES), SIZES)

    def packed(name: str, rows: list[dict[str, object]], form: ShardFormat) -> Path:
        source = root / f"{name}.jsonl"
        source.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return pack_conversations(source, root / name, policy, format=form)

    asked: list[dict[str, object]] = [{"prompt": [user("x" * (number % 5 + 1))]} for number in range(12)]
    return Folders(
        policy,
        packed("prompts", asked, ShardFormat.PROMPTS),
        packed("pairs", preferences(16), ShardFormat.PREFERENCES),
    )


def rewarded(folders: Folders, folder: Path, *more: str) -> Path:
    """Checkpoints of a run of stage reward."""
    overrides = (
        "stage=reward",
        f"initFrom={{uri: {folders.policy}}}",
        "model={contextLength: 224}",
        "training.globalBatchSize=2",
        "training.steps=1",
        "training.schedule={name: constant}",
        "training.optimizer={name: adam, learningRate: 0.01}",
        f"validation={{uri: {folders.pairs}, everySteps: 1}}",
        *more,
    )
    end: Ended = run_ranks(train_under, 1, FakeAgent(), tiny_config(folders.pairs, folder, overrides))[0]
    assert end.code == ExitCode.SUCCESS, end.stderr
    return folder / "checkpoints"


def config_of(folders: Folders, folder: Path, *more: str) -> RunConfig:
    """A run of ppo whose rollouts are one step each."""
    overrides = (
        "stage=ppo",
        f"initFrom={{uri: {folders.policy}}}",
        "model={contextLength: 128}",
        f"rollout={{maxTokens: 16, samples: 4, stop: {STOP}}}",
        "reinforcement={epochs: 1, value: {clip: 1.0e-6}}",
        "training.steps=2",
        "training.globalBatchSize=4",
        "training.optimizer={name: adam, learningRate: 0.01}",
        "training.schedule={name: constant}",
        *more,
    )
    return tiny_config(folders.prompts, folder, overrides)


def start(config: RunConfig, ranks: int = 1) -> Reinforced:
    """To its end."""
    end: Reinforced = run_ranks(reinforce, ranks, FakeAgent(), config)[0]
    assert end.code == ExitCode.SUCCESS, end.stderr
    return end


# -- nothing is dropped ----------------------------------------------------------------------


def by_a_run(folders: Folders, root: Path) -> tuple[Path, Path]:
    """Its checkpoints say that it was trained with dropout."""
    drops = "model.dropout={hidden: 0.1, attention: 0.1, embedding: 0.1}"
    return folders.policy, rewarded(folders, root / "judge", drops)


def gpt2(folders: Folders, root: Path) -> tuple[Path, Path]:
    """As they come: all its probabilities are .1."""
    # Here, as it takes seconds to import.
    from transformers import GPT2Config, GPT2ForSequenceClassification, GPT2LMHeadModel

    sizes = {"n_embd": 32, "n_head": 2, "n_layer": 2, "n_positions": 128, "vocab_size": SIZES.vocabulary}
    settings = GPT2Config(**sizes, bos_token_id=None, eos_token_id=256, pad_token_id=257)
    settings.num_labels = 1
    assert settings.resid_pdrop == settings.embd_pdrop == settings.attn_pdrop == 0.1
    for name, kind in (("policy", GPT2LMHeadModel), ("judge", GPT2ForSequenceClassification)):
        write(root / name, random_weights(7, sizes=SIZES), SIZES)  # for its tokenizer
        torch.manual_seed(5)
        kind(settings).save_pretrained(root / name)
    return root / "policy", root / "judge"


@pytest.mark.parametrize(
    "made",
    [pytest.param(by_a_run, id="a-run-of-dropout"), pytest.param(gpt2, id="gpt2", marks=pytest.mark.long)],
)
def test_a_model_is_compared_with_itself_without_dropout(
    made: Callable[[Folders, Path], tuple[Path, Path]], folders: Folders, tmp_path: Path
) -> None:
    """Before its first update neither the policy nor the value model is another than at the rollout."""
    policy, judge = made(folders, tmp_path)
    more = (f"initFrom.uri={policy}", f"reward={{uri: {judge}, normalization: none}}")
    first = start(config_of(folders, tmp_path, *more)).agent.rows[0].values
    assert first["policy/ratio"] == pytest.approx(1, abs=1e-6)
    assert first["value/clipped"] == 0
