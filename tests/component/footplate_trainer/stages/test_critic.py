"""The value model of ppo: what it is of the model that it begins as, and what a restart needs for it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from footplate_contracts.metrics import StepMetrics
from footplate_contracts.names import Backend, ExitCode
from footplate_contracts.runconfig import RunConfig
from footplate_contracts.v1alpha1.data import Data
from footplate_trainer.checkpoint.lookup import find_newest_whole
from footplate_trainer.checkpoint.store import CheckpointStore
from footplate_trainer.data.layout import MANIFEST_FILE, RecordKind
from footplate_trainer.data.shards import TokenShards
from footplate_trainer.data.sources import RunShards
from footplate_trainer.errors import UserMistake
from footplate_trainer.huggingface.export import export_checkpoint
from footplate_trainer.huggingface.initial import complete_config
from footplate_trainer.huggingface.model_end_tokens import end_token_ids
from footplate_trainer.huggingface.saved_processors import SavedProcessors
from footplate_trainer.parallel.parallel_model import build_model
from footplate_trainer.parallel.world import init_distributed, read_environment
from footplate_trainer.rollout.journal_files import FOLDER
from footplate_trainer.rollout.journal_records import Float32s
from footplate_trainer.stages.critic import (
    build_value,
    check_scoring_models,
    check_turn_ends,
    reward_digest,
)
from footplate_trainer.stages.rollouts import find_answer_end_tokens
from footplate_trainer.stages.start import StartPosition
from tests.support.chat import assistant, user
from tests.support.checkpoints import whole_tensors, write_checkpoint
from tests.support.plain_llama import Sizes, random_weights, write
from tests.support.ranks import run_ranks
from tests.support.reinforced import STOP, Reinforced, finished, pack_prompts, reinforce
from tests.support.stages import pack_conversations, preferences
from tests.support.tiny import tiny_config
from tests.support.training import Ended, FakeAgent, train_under

SIZES: Final = Sizes(vocabulary=260)
CONTEXT, LONGER = 128, 224


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

    def packed(name: str, rows: list[dict[str, object]], form: RecordKind = RecordKind.CHAT) -> Path:
        source = root / f"{name}.jsonl"
        source.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return pack_conversations(source, root / name, policy, format=form)

    return Folders(
        policy,
        pack_prompts(root, model=policy),
        packed("pairs", preferences(16), RecordKind.PREFERENCES),
        packed("chats", [{"messages": [user("a"), assistant("b" * number)]} for number in range(1, 5)]),
    )


@pytest.fixture(scope="module")
def judge(folders: Folders, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints of a run of stage reward that drops, has adapters, and has places that ppo does not."""
    folder = tmp_path_factory.mktemp("judge")
    overrides = (
        "stage=reward",
        "model.family=gpt2",
        "model.keyValueHeads=null",
        f"model.vocabularySize={SIZES.vocabulary}",
        f"model.contextLength={LONGER}",
        "model.dropout={hidden: 0.1, attention: 0.1, embedding: 0.1}",
        "model.adapter={rank: 4, alpha: 8}",
        "training.globalBatchSize=2",
        "training.steps=2",
        "training.schedule={name: constant}",
        "training.optimizer={name: adam, learningRate: 0.01}",
        f"validation={{uri: {folders.pairs}, everySteps: 2}}",
    )
    end: Ended = run_ranks(train_under, 1, FakeAgent(), tiny_config(folders.pairs, folder, overrides))[0]
    assert end.code == ExitCode.SUCCESS, end.stderr
    return folder / "checkpoints"


def config_of(folders: Folders, folder: Path, *more: str) -> RunConfig:
    """A run of ppo whose rollouts are one step each."""
    overrides = (
        "stage=ppo",
        f"initFrom={{uri: {folders.policy}}}",
        f"model={{contextLength: {CONTEXT}}}",
        f"rollout={{maxTokens: 16, generationBatchSize: 4, stop: {STOP}}}",
        "reinforcement={numIterations: 1, value: {clip: 1.0e-6}}",
        "training.steps=2",
        "training.globalBatchSize=4",
        "training.optimizer={name: adam, learningRate: 0.01}",
        "training.schedule={name: constant}",
        *more,
    )
    return tiny_config(folders.prompts, folder, overrides)


@dataclass(frozen=True)
class Run:
    """One of ppo that nothing interrupted, and where its value model begins."""

    folder: Path
    judge: Path
    value: Path
    rows: list[StepMetrics]

    @property
    def places(self) -> tuple[str, ...]:
        """Its overrides."""
        return (
            f"reward.uri={self.judge}",
            f"reinforcement.value.uri={self.value}",
            "checkpoint.everySteps=1",
        )


@pytest.fixture(scope="module")
def undisturbed(folders: Folders, judge: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Of two steps; the folders that it names are its own."""
    root = tmp_path_factory.mktemp("undisturbed")
    judged, value = (shutil.copytree(judge, root / name / "checkpoints") for name in ("judge", "value"))
    run = Run(root / "run", judged, value, [])
    run.rows.extend(finished(config_of(folders, run.folder, *run.places)).agent.rows)
    return run


# -- nothing is dropped ----------------------------------------------------------------------


def test_a_model_is_compared_with_itself_without_the_dropout_of_its_reward_run(undisturbed: Run) -> None:
    check_equal_to_itself(undisturbed.rows[0])


def check_equal_to_itself(first: StepMetrics) -> None:
    """Before its first update neither the policy nor the value model is another than at the rollout."""
    assert first.values["policy/ratio"] == pytest.approx(1, abs=1e-6)
    assert first.values["value/clipped"] == 0


def gpt2(root: Path) -> tuple[Path, Path]:
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


@pytest.mark.long
def test_a_model_as_it_comes_is_compared_with_itself(folders: Folders, tmp_path: Path) -> None:
    policy, judged = gpt2(tmp_path)
    more = (f"initFrom.uri={policy}", f"reward={{uri: {judged}, normalization: none}}")
    check_equal_to_itself(finished(config_of(folders, tmp_path, *more)).agent.rows[0])


# -- where it begins, and what is needed again -------------------------------------------------


def test_a_value_model_is_trained_whole_though_its_reward_run_had_adapters(
    folders: Folders, judge: Path, undisturbed: Run, tmp_path: Path
) -> None:
    """They are merged: it begins with what the reward model computes, and all of it learns."""
    export_checkpoint(find_newest_whole(str(judge)), tmp_path / "exported")
    configs = [
        complete_config(config_of(folders, tmp_path, f"reward={{uri: {place}}}"))
        for place in (judge, tmp_path / "exported")
    ]
    [(begun, exported)] = run_ranks(begin_at, 1, configs)
    learnt = whole_tensors(CheckpointStore(str(undisturbed.folder / "checkpoints")), 2)
    assert begun.keys() == exported.keys()
    assert {f"value.model.{name}" for name in begun} == {n for n in learnt if n.startswith("value.model.")}
    assert begun["positions.weight"].shape[0] == CONTEXT, "it has as many places as the policy"
    for name, tensor in begun.items():
        np.testing.assert_allclose(tensor, exported[name], rtol=0, atol=1e-6)
        after = learnt[f"value.model.{name}"].numpy()
        assert not np.array_equal(tensor, after), f"{name} does not learn"
    name = "blocks.0.feed_forward.down.weight"
    base = whole_tensors(CheckpointStore(str(judge)), 2)[f"model.{name}"]
    assert not np.array_equal(begun[name], base.numpy()), "adapters are left out"


def test_a_restart_needs_no_value_model_and_no_newer_reward_model(
    folders: Folders, undisturbed: Run, tmp_path: Path
) -> None:
    """Both are what they were, whatever stands at their places by now."""
    folder, places = tmp_path / "run", {"judge": tmp_path / "judge", "value": tmp_path / "gone"}
    shutil.copytree(undisturbed.folder, folder)
    shutil.copytree(undisturbed.judge, places["judge"])
    back_to(CheckpointStore(str(folder / "checkpoints")), 1)
    newer = write_checkpoint(places["judge"], 3, "stage=reward")
    (newer / "tokenizer.json").write_bytes(b"{}")
    assert find_newest_whole(str(places["judge"])).state().scores is None

    again = finished(config_of(folders, folder, *replace(undisturbed, **places).places), ranks=2).agent.rows

    told, wanted = (
        [(row.loss, row.values["rewards/model"]) for row in rows] for rows in (again, undisturbed.rows[1:])
    )
    assert len(told) == 1
    np.testing.assert_allclose(told, wanted, rtol=0, atol=3e-6)


def back_to(store: CheckpointStore, step: int) -> None:
    """As a kill leaves `store` behind `step`, with nothing drawn since."""
    for newer in store.steps():
        if newer > step:
            store.revoke(newer)
    shutil.rmtree(Path(store.uri) / FOLDER)


def test_prompts_that_are_packed_anew_with_another_end_are_told(folders: Folders, undisturbed: Run) -> None:
    """Their tokens may be the same, and the reward model reads other ones behind an answer."""
    key = find_newest_whole(str(undisturbed.folder / "checkpoints")).state().key
    record = TokenShards.open(str(folders.prompts)).manifest.samples
    assert record is not None and record.turn_end
    assert key["data.turnEnd"] == [record.turn_end]
    assert reward_digest(key) != reward_digest({**key, "data.turnEnd": [record.turn_end[:1]]})


def ends_here(places: Sequence[Path]) -> frozenset[int]:
    """As one rank, of prompts at a place of its own."""
    with init_distributed(read_environment(os.environ), Backend.GLOO) as world:
        prompts = RunShards.open(Data(uri=str(places[world.rank])))
        return find_answer_end_tokens(
            prompts, SavedProcessors(), Tokenizer.from_str(prompts.tokenizer.decode()), world
        )


def test_an_answer_ends_where_the_template_of_its_prompt_ends_a_turn(
    folders: Folders, tmp_path: Path
) -> None:
    """Though a model that came with no template, and names no end, would talk on; on all ranks alike."""
    record = TokenShards.open(str(folders.prompts)).manifest.samples
    assert record is not None and record.turn_end and record.template is not None
    tokenizer = Tokenizer.from_file(str(folders.policy / "tokenizer.json"))
    assert record.turn_end[0] not in end_token_ids(SavedProcessors(), tokenizer, SIZES.vocabulary)
    shutil.copytree(folders.prompts, tmp_path / "prompts")
    nothing = "{{ 1 / 0 }}".ljust(record.template.bytes)  # is rendered of it
    (tmp_path / "prompts" / record.template.file).write_text(nothing)
    first, second = run_ranks(ends_here, 2, (folders.prompts, tmp_path / "prompts"))
    assert first == second and record.turn_end[0] in first


def test_prompts_that_overlook_the_end_of_a_turn_are_refused(folders: Folders, tmp_path: Path) -> None:
    """Earlier releases looked at tokens that a file calls special, and a template ends answers with any."""
    shutil.copytree(folders.prompts, tmp_path / "prompts")
    tokenizer = Tokenizer.from_file(str(folders.policy / "tokenizer.json"))
    check_turn_ends(RunShards.open(Data(uri=str(folders.prompts))), SavedProcessors(), tokenizer)
    with pytest.raises(UserMistake, match=r"reward.uri: .* its chat template writes <\|.*pack the prompts"):
        check_turn_ends(without_ends(tmp_path / "prompts"), SavedProcessors(), tokenizer)


def test_texts_that_an_earlier_release_packed_are_not(folders: Folders, tmp_path: Path) -> None:
    """No template wrote them, so none ends what is said to them."""
    source = tmp_path / "texts.jsonl"
    source.write_text('{"prompt": "Once upon"}\n{"prompt": "There was"}\n')
    packed = pack_conversations(source, tmp_path / "texts", folders.policy, format=RecordKind.PROMPTS)
    shards, tokenizer = without_ends(packed), Tokenizer.from_file(str(folders.policy / "tokenizer.json"))
    assert shards.template is not None
    check_turn_ends(shards, SavedProcessors(), tokenizer)


def without_ends(packed: Path) -> RunShards:
    """As an earlier release packed them, which found no token that ends a turn."""
    manifest = packed / MANIFEST_FILE
    said = json.loads(manifest.read_text())
    said["samples"]["turnEnd"] = []
    manifest.write_text(json.dumps(said))
    return RunShards.open(Data(uri=str(packed)))


def test_what_an_earlier_release_trained_of_a_value_model_is_not_gone_on_with(
    folders: Folders, judge: Path, tmp_path: Path
) -> None:
    """Its checkpoints do not say what their value model is: it was the adapters of the reward model."""
    config = complete_config(config_of(folders, tmp_path, f"reward={{uri: {judge}}}"))
    check_scoring_models(config, 1)
    write_checkpoint(tmp_path / "checkpoints", 1)
    with pytest.raises(UserMistake, match=r"reward.uri .*: its model has adapters; the earlier release"):
        check_scoring_models(config, 1)


def test_a_value_model_of_another_tokenizer_is_refused(folders: Folders, tmp_path: Path) -> None:
    value = write(tmp_path / "value", random_weights(17, "score", SIZES), SIZES)
    file = value / "tokenizer.json"
    file.write_text(file.read_text().replace('"a":', '"swapped":').replace('"b":', '"a":'))
    functions = "reward={functions: [{name: short, length: {}}]}"
    config = config_of(folders, tmp_path, functions, f"reinforcement.value.uri={value}")
    end: Reinforced = run_ranks(reinforce, 1, FakeAgent(), config)[0]
    assert end.code == ExitCode.CONFIG
    assert f"reinforcement.value.uri {value}: its tokenizer differs from the data's: token " in end.stderr


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
    config = complete_config(
        config_of(
            folders,
            tmp_path,
            f"initFrom={{uri: {other.checkpoint.uri}}}",
            "reinforcement.value.fromPolicy=true",
            "reward={functions: [{name: short, length: {}}]}",
        )
    )
    [[begun]] = run_ranks(begin_at, 1, [config], marker.directory)
    older = whole_tensors(store, 1)
    del begun["score.weight"]  # is new
    for name, tensor in begun.items():
        np.testing.assert_array_equal(tensor, older[f"model.{name}"].numpy())


def begin_at(configs: Sequence[RunConfig], directory: str = "") -> list[dict[str, Float32s]]:
    """As one rank: the value models of runs whose policy was loaded from `directory`."""
    found = []
    with init_distributed(read_environment(os.environ), configs[0].world.backend) as world:
        for config in configs:
            critic = build_value(config, build_model(config, world), world)
            critic.load_initial_weights(StartPosition(directory=directory), world)
            parameters = critic.model.module.named_parameters()
            found.append({name: parameter.detach().numpy().copy() for name, parameter in parameters})
    return found
