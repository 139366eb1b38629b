"""The value model of ppo: what it is of the model that it begins as, and what a restart needs for it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pytest
import torch

from footplate_contracts.names import ExitCode
from footplate_contracts.runconfig import RunConfig
from footplate_trainer.checkpoint.place import newest_whole
from footplate_trainer.checkpoint.store import CheckpointStore
from footplate_trainer.data.layout import ShardFormat
from footplate_trainer.huggingface.export import export
from footplate_trainer.huggingface.initial import completed
from footplate_trainer.parallel.apply import build_model
from footplate_trainer.parallel.world import open_world, read_environment
from footplate_trainer.rollout.records import Float32s
from footplate_trainer.stages.critic import build_value
from footplate_trainer.stages.start import Start
from tests.support.chat import assistant, user
from tests.support.checkpoints import whole_tensors
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
    chats: Path


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    root = tmp_path_factory.mktemp("models")
    policy = write(root / "policy", random_weights(7, sizes=SIZES), SIZES)

    def packed(name: str, rows: list[dict[str, object]], form: ShardFormat = ShardFormat.CHAT) -> Path:
        source = root / f"{name}.jsonl"
        source.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return pack_conversations(source, root / name, policy, format=form)

    asked: list[dict[str, object]] = [{"prompt": [user("x" * (number % 5 + 1))]} for number in range(12)]
    return Folders(
        policy,
        packed("prompts", asked, ShardFormat.PROMPTS),
        packed("pairs", preferences(16), ShardFormat.PREFERENCES),
        packed("chats", [{"messages": [user("a"), assistant("b" * number)]} for number in range(1, 5)]),
    )


def rewarded(folders: Folders, folder: Path, *more: str, held_out: bool = True) -> Path:
    """Checkpoints of a run of stage reward, which knows its `held_out` scores."""
    overrides = (
        "stage=reward",
        f"initFrom={{uri: {folders.policy}}}",
        "model={contextLength: 224}",
        "training.globalBatchSize=2",
        "training.steps=1",
        "training.schedule={name: constant}",
        "training.optimizer={name: adam, learningRate: 0.01}",
        *((f"validation={{uri: {folders.pairs}, everySteps: 1}}",) if held_out else ()),
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


# -- where it begins, and what is needed again -------------------------------------------------

ADAPTERS: Final = "model.adapter={rank: 4, alpha: 8}"


def test_a_value_model_is_trained_whole_though_its_reward_run_had_adapters(
    folders: Folders, tmp_path: Path
) -> None:
    """They are merged: it begins with what the reward model computes, and all of it learns."""
    judge = rewarded(folders, tmp_path / "judge", ADAPTERS, "training.steps=2")
    export(newest_whole(str(judge)), tmp_path / "exported")
    begun = []
    for place in (judge, tmp_path / "exported"):
        [tensors] = run_ranks(
            begins_at, 1, completed(config_of(folders, tmp_path, f"reward={{uri: {place}}}"))
        )
        begun.append(tensors)
    fast = ("training.optimizer={name: sgd, learningRate: 1.0}", "training.steps=1")
    start(config_of(folders, tmp_path, f"reward={{uri: {judge}}}", *fast))
    learnt = whole_tensors(CheckpointStore(str(tmp_path / "checkpoints")), 1)
    assert begun[0].keys() == begun[1].keys()
    assert {f"value.model.{name}" for name in begun[0]} == {n for n in learnt if n.startswith("value.model.")}
    for name, tensor in begun[0].items():
        np.testing.assert_allclose(tensor, begun[1][name], rtol=0, atol=1e-6)
        after = learnt[f"value.model.{name}"].numpy()
        assert not np.array_equal(tensor, after), f"{name} does not learn"
    down = begun[0]["blocks.0.feed_forward.down.weight"]
    base = random_weights(7, sizes=SIZES)["model.layers.0.mlp.down_proj.weight"]
    assert not np.array_equal(down, base.numpy()), "adapters are left out"


def test_a_restart_needs_no_value_model_and_no_newer_reward_model(folders: Folders, tmp_path: Path) -> None:
    """Both are what they were, whatever stands at their places by now."""
    judge, value = (rewarded(folders, tmp_path / name) for name in ("judge", "value"))
    more = (f"reward.uri={judge}", f"reinforcement.value.uri={value}", "checkpoint.everySteps=1")
    undisturbed = tmp_path / "undisturbed"
    expected = start(config_of(folders, undisturbed, *more)).agent.rows
    first = start(config_of(folders, tmp_path / "run", *more, "training.steps=1")).agent.rows
    shutil.rmtree(value)
    rewarded(folders, tmp_path / "judge", "training.steps=2", held_out=False)
    assert newest_whole(str(judge)).state().scores is None

    again = start(config_of(folders, tmp_path / "run", *more), ranks=2).agent.rows

    told = [(row.loss, row.values["rewards/model"]) for row in (*first, *again)]
    wanted = [(row.loss, row.values["rewards/model"]) for row in expected]
    assert len(told) == 2
    np.testing.assert_allclose(told, wanted, rtol=0, atol=3e-6)


def test_a_value_model_of_another_tokenizer_is_refused(folders: Folders, tmp_path: Path) -> None:
    value = write(tmp_path / "value", random_weights(17, "score", SIZES), SIZES)
    file = value / "tokenizer.json"
    file.write_text(file.read_text().replace('"a":', '"swapped":').replace('"b":', '"a":'))
    functions = "reward={functions: [{name: short, length: {}}]}"
    config = config_of(folders, tmp_path, functions, f"reinforcement.value.uri={value}")
    end: Reinforced = run_ranks(reinforce, 1, FakeAgent(), config)[0]
    assert end.code == ExitCode.CONFIG
    assert f"reinforcement.value.uri {value}: it has another tokenizer than the data: token " in end.stderr


def test_a_value_model_begins_with_the_checkpoint_that_the_policy_did(
    folders: Folders, tmp_path: Path
) -> None:
    """Whatever the other run has committed since."""
    chats = ("stage=sft", "training.globalBatchSize=2")
    learning = ("training.optimizer={name: sgd, learningRate: 1.0}", "training.schedule={name: constant}")
    model = f"initFrom={{uri: {folders.policy}}}", "model={contextLength: 128}", "training.steps=2"
    other = tiny_config(
        folders.chats, tmp_path / "other", (*chats, *learning, *model, "checkpoint.everySteps=1")
    )
    end: Ended = run_ranks(train_under, 1, FakeAgent(), other)[0]
    assert end.code == ExitCode.SUCCESS, end.stderr
    store = CheckpointStore(other.checkpoint.uri)
    marker = store.marker(1)
    assert marker is not None and store.steps() == [2, 1]
    config = completed(
        config_of(
            folders,
            tmp_path,
            f"initFrom={{uri: {other.checkpoint.uri}}}",
            "reinforcement.value.fromPolicy=true",
            "reward={functions: [{name: short, length: {}}]}",
        )
    )
    [begun] = run_ranks(begins_at, 1, config, marker.directory)
    older = whole_tensors(store, 1)
    del begun["score.weight"]  # is new
    for name, tensor in begun.items():
        np.testing.assert_array_equal(tensor, older[f"model.{name}"].numpy())


def begins_at(config: RunConfig, directory: str = "") -> dict[str, Float32s]:
    """As one rank: the value model of a run whose policy was loaded from `directory`."""
    with open_world(read_environment(os.environ), config.world.backend) as world:
        critic = build_value(config, build_model(config, world), world)
        critic.begin(Start(directory=directory), world)
        parameters = critic.model.module.named_parameters()
        return {name: parameter.detach().numpy().copy() for name, parameter in parameters}
