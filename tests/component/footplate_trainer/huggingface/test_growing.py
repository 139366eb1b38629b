"""A folder's model with its own tokenizer, and with more ids than the folder has embeddings."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models
from tokenizers.pre_tokenizers import ByteLevel
from transformers import AutoModelForCausalLM, AutoTokenizer

from footplate_contracts.names import ExitCode
from footplate_contracts.runconfig import RunConfig, World
from footplate_contracts.v1alpha1.model import Family
from footplate_planning.config import shape_of
from footplate_trainer.__main__ import main
from footplate_trainer.checkpoint.lookup import find_newest_whole
from footplate_trainer.commands.generate import load
from footplate_trainer.data.shards import TokenShards
from footplate_trainer.huggingface.initial import complete_config
from footplate_trainer.huggingface.writer import write_folder
from footplate_trainer.manifest.run_file import read_run
from footplate_trainer.model.network_factory import build_network
from tests.support.layouts import initial, joined
from tests.support.ranks import run_ranks
from tests.support.shapes import fill, model_of
from tests.support.tiny import tiny_manifest
from tests.support.training import FakeAgent, train, train_under

ROWS = 1100  # more than are summed at once


def config_from(shards: Path, base: Path, folder: Path, **spec: dict[str, Any]) -> RunConfig:
    """Two steps beside the model in `base`."""
    folder.mkdir(exist_ok=True)
    manifest = tiny_manifest(shards, folder / "checkpoints")
    manifest["spec"] |= {"initFrom": {"uri": str(base)}, "parallelism": spec.pop("parallelism", {})}
    manifest["spec"]["model"] = {"contextLength": 24, **spec.pop("model", {})}
    manifest["spec"]["training"] |= {"steps": 2, "schedule": {}}
    (folder / "run.json").write_text(json.dumps(manifest))
    return read_run(folder / "run.json").config(World())


def written(folder: Path, family: Family, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """A folder of transformers with a small model of `family`; its weights by our names, fp32."""
    model = model_of(family, vocabulary_size=ROWS)
    network = build_network(shape_of(model))
    fill(network)
    weights = {name: parameter.detach().to(dtype) for name, parameter in network.named_parameters()}

    def whole(names: Sequence[str]) -> Mapping[str, torch.Tensor]:
        return {name: weights[name] for name in names}

    write_folder(folder, model, {name: tuple(w.shape) for name, w in weights.items()}, whole, None)
    return {name: weight.float() for name, weight in weights.items()}


@pytest.mark.parametrize(
    ("family", "dtype", "size", "ranks", "layout"),
    [
        pytest.param(Family.LLAMA, torch.float32, 1101, 1, {}, id="alone", marks=pytest.mark.long),
        pytest.param(
            Family.LLAMA, torch.bfloat16, 2048, 3, {}, id="sharded-unevenly", marks=pytest.mark.long
        ),
        pytest.param(Family.LLAMA, torch.float32, 1104, 4, {"tensor": 2}, id="tensor-and-data"),
        pytest.param(Family.GPT2, torch.float16, 4096, 2, {"pipeline": 2}, id="tied-pipeline"),
        pytest.param(
            Family.BERT, torch.float32, 1200, 2, {"tensor": 2}, id="bias-of-a-head", marks=pytest.mark.long
        ),
    ],
)
def test_new_rows_are_the_mean_of_the_old_in_every_layout(
    tmp_path: Path, family: Family, dtype: torch.dtype, size: int, ranks: int, layout: dict[str, int]
) -> None:
    base = written(tmp_path / "base", family, dtype)
    grown = {"vocabularySize": size, "resizeTokenEmbeddings": True}
    config = complete_config(
        config_from(tmp_path, tmp_path / "base", tmp_path, model=grown, parallelism=layout)
    )

    whole = joined(run_ranks(initial, ranks, config))

    assert whole.keys() == base.keys()
    longer = {name for name in base if len(whole[name]) != len(base[name])}
    assert longer == {"embedding.weight", "head.weight", "head_bias"} & base.keys()
    for name, weight in base.items():
        assert torch.equal(whole[name][: len(weight)], weight), name
        if name in longer:
            mean = weight.double().mean(0).float()
            assert len(whole[name]) == size
            assert torch.equal(whole[name][len(weight) :], mean.expand(size - ROWS, *mean.shape)), name


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an exported model of 258 ids, `base`, whose tokenizer has but one special token."""
    folder = tmp_path_factory.mktemp("own")
    alphabet = {token: number for number, token in enumerate(sorted(ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(alphabet | {"th": 256}, [("t", "h")]))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens(["<|endoftext|>"])
    tokenizer.save(str(folder / "own.json"))
    (folder / "text.txt").write_text("the path that they thought of then\n" * 60)
    assert packed(folder, "first", folder / "own.json") == 258
    manifest = tiny_manifest(folder / "first", folder / "checkpoints")
    manifest["spec"]["model"] |= {"vocabularySize": 258}
    manifest["spec"]["training"] |= {"steps": 2}
    (folder / "run.json").write_text(json.dumps(manifest))
    assert run_ranks(train, 1, read_run(folder / "run.json").config(World())) == [0]
    assert main(("export", str(folder / "checkpoints"), str(folder / "base"))) == 0
    return folder


def packed(folder: Path, name: str, tokenizer: Path, *options: str) -> int:
    """Pack the folder's text; the ids of its vocabulary."""
    arguments = ("pack", str(folder / "text.txt"), str(folder / name), "--tokenizer", str(tokenizer))
    assert main((*arguments, *options)) == 0
    return TokenShards.open(str(folder / name)).vocabulary_size


def test_an_imported_model_is_trained_with_its_own_tokenizer_and_no_other_id(
    tuned: Path, tmp_path: Path
) -> None:
    assert packed(tuned, "own", tuned / "base" / "tokenizer.json") == 258

    assert run_ranks(train, 2, config_from(tuned / "own", tuned / "base", tmp_path)) == [0, 0]


def test_a_vocabulary_that_its_author_padded_may_be_larger(tuned: Path, tmp_path: Path) -> None:
    """More embeddings than the tokenizer has ids, as many a published model has them."""
    stored = load_file(tuned / "base" / "model.safetensors")
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        stored[name] = torch.cat([stored[name], torch.zeros(6, stored[name].shape[1])])
    padded = tmp_path / "padded"
    padded.mkdir()
    save_file(stored, padded / "model.safetensors")
    config = json.loads((tuned / "base" / "config.json").read_text()) | {"vocab_size": 264}
    (padded / "config.json").write_text(json.dumps(config))

    assert run_ranks(train, 1, config_from(tuned / "first", padded, tmp_path / "run")) == [0]


def test_new_ids_want_embeddings_that_grow_and_are_exported(
    tuned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert packed(tuned, "more", tuned / "base" / "tokenizer.json", "--reserve", "mask") == 259
    refused = config_from(tuned / "more", tuned / "base", tmp_path / "refused")
    [ended] = run_ranks(train_under, 1, FakeAgent(), refused)
    assert ended.code == ExitCode.CONFIG
    assert "model.vocabularySize 258 does not cover the shards" in ended.stderr
    assert "set at least that with model.resizeTokenEmbeddings, or pack with the folder's own" in ended.stderr

    grown = {"vocabularySize": 260, "resizeTokenEmbeddings": True, "adapter": {"rank": 2}}
    config = config_from(tuned / "more", tuned / "base", tmp_path, model=grown, parallelism={"tensor": 2})
    assert run_ranks(train, 2, config) == [0, 0]
    assert main(("export", str(tmp_path / "checkpoints"), str(tmp_path / "out"))) == 0

    ours, _ = load(find_newest_whole(str(tmp_path / "checkpoints")))
    theirs, problems = AutoModelForCausalLM.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(problems.values())
    assert theirs.config.vocab_size == len(theirs.get_input_embeddings().weight) == 260
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    mask = tokenizer.convert_tokens_to_ids("<mask>")
    assert mask == 258
    with torch.inference_mode():
        tokens = torch.tensor([[5, 256, 257, mask, 259]])
        assert (theirs.eval()(tokens).logits - ours(tokens)).abs().max().item() <= 1e-5
    base, _ = load(find_newest_whole(str(tuned / "checkpoints")))
    old = base.get_parameter("embedding.weight")
    torch.testing.assert_close(ours.get_parameter("embedding.weight")[258:], old.mean(0).expand(2, -1))

    longer = config.model_copy(update={"training": config.training.model_copy(update={"steps": 3})})
    ended = run_ranks(train_under, 2, FakeAgent(), longer)[0]
    assert (ended.code, ended.agent.rows[0].step) == (ExitCode.SUCCESS, 3)

    capsys.readouterr()
    alone = ("export", "--adapter", str(tmp_path / "checkpoints"), str(tmp_path / "adapter"))
    assert main(alone) == ExitCode.CONFIG
    assert "has more embeddings than its initFrom folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("model", "parallelism", "complaint"),
    [
        pytest.param(
            {"vocabularySize": 260},
            {},
            "vocabularySize is 260, in the folder 258; resizeTokenEmbeddings adds the rows",
            id="not-asked-for",
        ),
        pytest.param(
            {},
            {"tensor": 4},
            "model.vocabularySize 258 is not a multiple of parallelism.tensor 4; use 260, with "
            "model.resizeTokenEmbeddings to enlarge that of initFrom",
            id="tensor-does-not-divide",
        ),
    ],
)
def test_a_vocabulary_that_does_not_fit_is_refused_with_the_remedy(
    tuned: Path, tmp_path: Path, model: dict[str, Any], parallelism: dict[str, int], complaint: str
) -> None:
    config = config_from(tuned / "first", tuned / "base", tmp_path, model=model, parallelism=parallelism)

    ended = run_ranks(train_under, parallelism.get("tensor", 1), FakeAgent(), config)[0]

    assert ended.code == ExitCode.CONFIG
    assert complaint in ended.stderr
