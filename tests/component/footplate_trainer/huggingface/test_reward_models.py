"""Reward models in and out of folders of transformers: the same scores, padding that ends no text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from footplate_contracts.names import ExitCode
from footplate_trainer.__main__ import main
from tests.support.chat_model import CONTEXT as CHAT_CONTEXT
from tests.support.chat_model import TURN_END, write_chat_model
from tests.support.ranks import run_ranks
from tests.support.scores import our_scores
from tests.support.stages import UNEVEN_CONTEXT, pack_pairs
from tests.support.tiny import tiny_config
from tests.support.training import Ended, FakeAgent, train, train_under

STEPS = (
    "stage=reward",
    f"model.contextLength={UNEVEN_CONTEXT}",
    "training.steps=3",
    "training.globalBatchSize=4",
)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack_pairs(tmp_path_factory.mktemp("pairs"))


def trained(pairs: Path, folder: Path, *overrides: str, ranks: int = 1) -> Path:
    """The folder with `checkpoints` of a short run."""
    assert run_ranks(train, ranks, tiny_config(pairs, folder, (*STEPS, *overrides))) == [0] * ranks
    return folder


def exported(folder: Path, *options: str) -> Path:
    assert main(("export", str(folder / "checkpoints"), str(folder / "exported"), *options)) == 0
    return folder / "exported"


def padded(sequences: list[list[int]], padding: int, left: bool) -> tuple[Tensor, Tensor]:
    """A batch as a tokenizer makes one: ids and attention mask."""
    longest = max(map(len, sequences))
    fill = [[padding] * (longest - len(ids)) for ids in sequences]
    rows = [more + ids if left else ids + more for ids, more in zip(sequences, fill, strict=True)]
    masks = [
        [0] * len(more) + [1] * len(ids) if left else [1] * len(ids) + [0] * len(more)
        for ids, more in zip(sequences, fill, strict=True)
    ]
    return torch.tensor(rows), torch.tensor(masks)


def their_scores(model: Any, sequences: list[list[int]], padding: int, left: bool = False) -> list[float]:
    ids, mask = padded(sequences, padding, left)
    places = (mask.cumsum(1) - 1).clamp(min=0)
    with torch.inference_mode():
        told = model.eval()(ids, attention_mask=mask, position_ids=places).logits[:, 0]
    scores: list[float] = told.tolist()
    return scores


@pytest.mark.parametrize(
    "family",
    [
        "llama",
        "gpt2",
        pytest.param("mistral", marks=pytest.mark.long),
        pytest.param("qwen2", marks=pytest.mark.long),
    ],
)
def test_transformers_gives_the_scores_that_we_do(family: str, pairs: Path, tmp_path: Path) -> None:
    """Our tokenizer's padding ends no text; each sequence of a row is scored alone there."""
    trained(pairs, tmp_path, f"model.family={family}", "model.keyValueHeads=null")
    sequences, ours = our_scores(tmp_path / "checkpoints", pairs)
    out = exported(tmp_path)

    theirs, problems = AutoModelForSequenceClassification.from_pretrained(out, output_loading_info=True)

    assert not any(problems.values())
    assert (theirs.config.num_labels, theirs.config.problem_type) == (1, "regression")
    assert type(theirs).__name__.endswith("ForSequenceClassification")
    assert len(sequences) > 20 and len({len(ids) for ids in sequences}) > 3
    padding = theirs.config.pad_token_id
    assert padding == AutoTokenizer.from_pretrained(out).pad_token_id
    for left in (False, True):
        assert their_scores(theirs, sequences, padding, left) == pytest.approx(ours, abs=1e-5)


def test_padding_that_would_end_a_text_is_another_token_there(pairs: Path, tmp_path: Path) -> None:
    """The chat model pads with its end of a text, as many do: whoever seeks that id finds the wrong token."""
    base = write_chat_model(tmp_path / "base", [256, TURN_END])
    shards = pack_pairs(tmp_path / "own", model=base)
    trained(shards, tmp_path, f"initFrom={{uri: {base}}}", f"model={{contextLength: {CHAT_CONTEXT * 2}}}")
    out = exported(tmp_path)

    config = json.loads((out / "config.json").read_text())
    tokenizer = AutoTokenizer.from_pretrained(out)

    assert config["eos_token_id"] == 256 and config["pad_token_id"] not in (256, TURN_END)
    assert tokenizer.pad_token_id == config["pad_token_id"]
    sequences, ours = our_scores(tmp_path / "checkpoints", shards)
    theirs = AutoModelForSequenceClassification.from_pretrained(out)
    # Texts that end with the id that the folder padded with.
    assert their_scores(theirs, sequences, tokenizer.pad_token_id) == pytest.approx(ours, abs=1e-5)


def test_a_folder_that_scores_goes_on_as_it_is(pairs: Path, tmp_path: Path) -> None:
    first = exported(trained(pairs, tmp_path / "first"))
    again = trained(
        pairs,
        tmp_path / "again",
        f"initFrom={{uri: {first}}}",
        f"model={{contextLength: {UNEVEN_CONTEXT}}}",
        "training.steps=1",
        "training.schedule={}",
        "training.optimizer={learningRate: 0.000000000001}",
        ranks=2,
    )
    sequences, ours = our_scores(tmp_path / "first" / "checkpoints", pairs)
    assert our_scores(again / "checkpoints", pairs) == (sequences, pytest.approx(ours, abs=1e-6))


def test_a_language_model_is_given_a_new_head(pairs: Path, shards: Path, tmp_path: Path) -> None:
    """That of any seed and layout is the same; the old one, if there is one, is passed over."""
    base = exported_language_model(shards, tmp_path / "base")
    made = [
        trained(
            pairs,
            tmp_path / str(ranks),
            f"initFrom={{uri: {base}}}",
            f"model={{contextLength: {UNEVEN_CONTEXT}}}",
            "training.steps=1",
            "training.schedule={}",
            "training.optimizer={learningRate: 0.000000000001}",
            ranks=ranks,
        )
        for ranks in (1, 2)
    ]
    weights = [load_file(exported(folder) / "model.safetensors") for folder in made]
    before = load_file(base / "model.safetensors")
    assert weights[0].keys() - before.keys() == {"score.weight"}
    assert before.keys() - weights[0].keys() == {"lm_head.weight"}
    assert weights[0]["score.weight"].shape == (1, 32)
    assert 0.01 < weights[0]["score.weight"].std().item() < 0.03
    for name, weight in weights[0].items():
        torch.testing.assert_close(weight, weights[1][name], rtol=0, atol=1e-7)


def exported_language_model(shards: Path, folder: Path) -> Path:
    changes = (f"model.contextLength={UNEVEN_CONTEXT}", "training.steps=1", "training.schedule={}")
    assert run_ranks(train, 1, tiny_config(shards, folder, changes)) == [0]
    return exported(folder)


@pytest.mark.parametrize("stage", ["pretrain", "sft"])
def test_a_model_that_scores_writes_no_text(
    stage: str, pairs: Path, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = exported(trained(pairs, tmp_path))
    overrides = (f"stage={stage}", f"initFrom={{uri: {out}}}", "model={contextLength: 32}")
    end: Ended = run_ranks(train_under, 1, FakeAgent(), tiny_config(shards, tmp_path / "x", overrides))[0]
    assert end.code == ExitCode.CONFIG
    assert f"has a model that scores texts, but stage {stage} trains a generating model" in end.stderr
    assert main(("generate", str(tmp_path / "checkpoints"), "abc")) == ExitCode.CONFIG
    assert "is a reward model, which only scores texts" in capsys.readouterr().err


def test_a_classifier_is_no_reward_model(pairs: Path, tmp_path: Path) -> None:
    out = exported(trained(pairs, tmp_path))
    config = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps(config | {"id2label": {"0": "a", "1": "b", "2": "c"}}))
    overrides = (*STEPS, f"initFrom={{uri: {out}}}", f"model={{contextLength: {UNEVEN_CONTEXT}}}")
    end: Ended = run_ranks(train_under, 1, FakeAgent(), tiny_config(pairs, tmp_path / "x", overrides))[0]
    assert end.code == ExitCode.CONFIG
    assert "has a model of 3 labels, but a reward model has 1; use another folder" in end.stderr


def test_adapters_go_out_with_their_head(pairs: Path, shards: Path, tmp_path: Path) -> None:
    """Merged, and as PEFT reads them on the language model that they are for."""
    base = exported_language_model(shards, tmp_path / "base")
    adapter = f"model={{contextLength: {UNEVEN_CONTEXT}, adapter: {{rank: 4, alpha: 8}}}}"
    rate = "training.optimizer={learningRate: 0.05}"
    trained(pairs, tmp_path, f"initFrom={{uri: {base}}}", adapter, rate, ranks=2)
    sequences, ours = our_scores(tmp_path / "checkpoints", pairs)
    merged = AutoModelForSequenceClassification.from_pretrained(exported(tmp_path))
    alone = tmp_path / "alone"
    assert main(("export", str(tmp_path / "checkpoints"), str(alone), "--adapter")) == 0

    plain = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1, pad_token_id=0)
    adapted = PeftModel.from_pretrained(plain, alone)

    padding = merged.config.pad_token_id
    assert their_scores(merged, sequences, padding) == pytest.approx(ours, abs=1e-5)
    adapted.config.pad_token_id = padding
    assert their_scores(adapted, sequences, padding) == pytest.approx(ours, abs=1e-5)
