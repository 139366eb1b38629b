"""Which model stands at a URI, and whether it suits a run."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from footplate_contracts.runconfig import RunConfig
from footplate_contracts.v1alpha1.model import Model
from footplate_contracts.v1alpha1.references import LineageEntry
from footplate_trainer.errors import UserMistake
from footplate_trainer.frozen.source import ModelSource, check_tokenizer, find_model, frozen_config
from tests.support.checkpoints import write_checkpoint
from tests.support.tiny import tiny_config

FIELD = "preference.reference.uri"


def run(*overrides: str) -> RunConfig:
    return tiny_config(Path("/data"), Path("/run"), overrides)


def found(*overrides: str, tokenizer: bytes | None = None) -> ModelSource:
    """A model as a run of those overrides has it."""
    return ModelSource("/models/one", FIELD, run(*overrides).model, tokenizer)


def words(*tokens: str) -> bytes:
    """A tokenizer.json whose ids are the places of `tokens`."""
    vocabulary = {token: number for number, token in enumerate(tokens)}
    model = {"type": "WordLevel", "vocab": vocabulary, "unk_token": tokens[0]}
    return json.dumps({"version": "1.0", "model": model, "added_tokens": []}).encode()


def test_of_a_runs_folder_it_is_the_newest_checkpoint(tmp_path: Path) -> None:
    for step in (2, 4):
        write_checkpoint(tmp_path, step)
        (tmp_path / f"step-{step}.e1g2" / "tokenizer.json").write_bytes(b"{}")
    assert find_model(str(tmp_path), FIELD).directory == "step-4.e1g2"
    assert find_model(str(tmp_path), FIELD, "step-2.e1g2").directory == "step-2.e1g2"
    one = find_model(str(tmp_path / "step-2.e1g2"), FIELD)
    assert (one.store, one.directory, one.model.layers) == (str(tmp_path), "step-2.e1g2", 2)
    again = find_model(str(tmp_path / "step-2.e1g2"), FIELD, one.directory)  # as a restart asks
    assert again == one


def test_what_another_run_gave_is_that_or_nothing(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, 2)
    uri = str(tmp_path / "step-2.e1g2")
    (tmp_path / "step-2.e1g2" / "tokenizer.json").write_bytes(b"{}")
    digest = hashlib.sha256((tmp_path / "step-2.e1g2" / "manifest.json").read_bytes()).hexdigest()
    given = LineageEntry(field="preference.reference", run="base", uid="u", step=2, uri=uri, digest=digest)
    assert find_model(uri, FIELD, lineage=[given]).directory == "step-2.e1g2"
    with pytest.raises(UserMistake, match=r"^preference.reference.run base: checkpoint .* has changed"):
        find_model(uri, FIELD, lineage=[given.model_copy(update={"digest": "0" * 64})])
    with pytest.raises(UserMistake, match="is missing; mount that run's volume"):
        find_model(uri, FIELD, lineage=[given.model_copy(update={"uri": f"{uri}0"})])


@pytest.mark.parametrize("exists", [True, False])
def test_a_folder_of_neither_is_told_as_one(exists: bool, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    if exists:
        folder.mkdir()
    with pytest.raises(UserMistake, match=rf"{FIELD} {folder}: is neither a folder of weights, as it has no"):
        find_model(str(folder), FIELD)


def test_what_is_frozen_has_the_context_of_the_run() -> None:
    asked = run("stage=dpo", "parallelism.tensor=2")
    other = found("model.layers=3", "model.contextLength=64")
    config = frozen_config(other, asked, 2)
    assert (config.model.layers, config.model.context_length, config.init_from) == (3, 32, None)
    assert config.parallelism == asked.parallelism


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        pytest.param(("model.contextLength=16",), "its model reads at most 16 tokens, but", id="context"),
        pytest.param(("model.family=bert", "model.keyValueHeads=null"), "its model is an encoder", id="kind"),
        pytest.param(
            ("model.attentionHeads=1", "model.keyValueHeads=1"),
            "its model does not match the layout of this run: model.attentionHeads 1 is not a multiple of",
            id="layout",
        ),
    ],
)
def test_what_the_run_cannot_hold_is_refused(overrides: tuple[str, ...], says: str) -> None:
    with pytest.raises(UserMistake, match=f"{FIELD} /models/one: {says}"):
        frozen_config(found(*overrides), run("stage=dpo", "parallelism.tensor=2"), 2)


@pytest.mark.parametrize(
    ("labels", "stage", "says"),
    [
        pytest.param(1, "dpo", "it is a model that scores texts, but a generating model", id="scores"),
        pytest.param(0, "reward", "its model returns no scores per text, but 1 is needed", id="writes"),
        pytest.param(2, "reward", "its model returns 2 scores per text, but 1 is needed", id="two-labels"),
    ],
)
def test_a_head_of_another_kind_is_refused(labels: int, stage: str, says: str) -> None:
    with pytest.raises(UserMistake, match=f"{FIELD} /models/one: {says}"):
        frozen_config(replace(found(), labels=labels), run(f"stage={stage}"), 1)


def test_a_reward_model_is_one_wherever_it_stands(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, 2, "stage=reward")
    (tmp_path / "step-2.e1g2" / "tokenizer.json").write_bytes(b"{}")
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    kind = {"model_type": "llama", "architectures": ["LlamaForSequenceClassification"], "num_labels": 1}
    more = {"vocab_size": 384, "max_position_embeddings": 64, "rms_norm_eps": 1e-5}
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "config.json").write_text(json.dumps(kind | sizes | more))
    for place in (tmp_path, tmp_path / "folder"):
        assert find_model(str(place), FIELD).labels == 1
        assert frozen_config(find_model(str(place), FIELD), run("stage=reward"), 1).stage == "reward"


def test_what_is_frozen_has_no_share_in_the_layout_of_a_rollout() -> None:
    rollout = "rollout={maxTokens: 8, numGenerations: 2, parallelism: {tensor: 2}}"
    asked = run("stage=grpo", rollout, "reward={functions: [{name: short, length: {}}]}")
    config = frozen_config(found("model.attentionHeads=1", "model.keyValueHeads=1"), asked, 2)
    assert (config.model.attention_heads, config.rollout) == (1, None)


OURS = words("a", "b", "c")


@pytest.mark.parametrize(
    "theirs",
    [
        pytest.param(None, id="none"),
        pytest.param(OURS, id="the-same"),
        pytest.param(words("a", "b", "c", "more"), id="with-more"),
    ],
)
def test_a_tokenizer_of_the_same_ids_goes(theirs: bytes | None) -> None:
    check_tokenizer(found(tokenizer=theirs), OURS, 3)


@pytest.mark.parametrize(
    ("theirs", "vocabulary", "says"),
    [
        pytest.param(words("a", "c", "b"), 3, "token 1 is 'c', but 'b' in the data", id="other-ids"),
        pytest.param(words("a", "b"), 3, "token 2 is None, but 'c' in the data", id="fewer-ids"),
        pytest.param(b"{}", 3, "cannot read its tokenizer.json", id="torn"),
        pytest.param(OURS, 385, "its vocabulary has 384 ids, but the data has 385", id="few-rows"),
    ],
)
def test_another_tokenizer_is_refused(theirs: bytes, vocabulary: int, says: str) -> None:
    with pytest.raises(UserMistake, match=f"{FIELD} /models/one: .*{says}"):
        check_tokenizer(found(tokenizer=theirs), OURS, vocabulary)


def test_a_model_without_a_size_of_its_vocabulary_has_none() -> None:
    unsized = ModelSource("/models/one", FIELD, Model.model_validate({"contextLength": 8}), None)
    with pytest.raises(UserMistake, match="its vocabulary has 0 ids"):
        check_tokenizer(unsized, OURS, 3)
