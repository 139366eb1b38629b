"""Fine-tuning a folder's model with adapters: what moves, what is exported, and to whom."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSeq2SeqLM

from footplate_contracts.names import ExitCode
from footplate_contracts.runconfig import RunConfig, World
from footplate_contracts.v1alpha1.model import Family
from footplate_planning.config import shape_of
from footplate_trainer.__main__ import main
from footplate_trainer.checkpoint.lookup import find_newest_whole
from footplate_trainer.checkpoint.store import CheckpointStore
from footplate_trainer.commands.generate import load
from footplate_trainer.huggingface.adapter import with_merged_adapters, write_adapter
from footplate_trainer.huggingface.writer import write_folder
from footplate_trainer.manifest.run_file import read_run
from footplate_trainer.model.linear import is_adapter_parameter
from footplate_trainer.model.network_factory import build_network
from tests.support.checkpoints import whole_tensors
from tests.support.nonempty import nonempty
from tests.support.ranks import run_ranks
from tests.support.shapes import fill, model_of, some_tokens
from tests.support.tiny import tiny_config, tiny_manifest
from tests.support.training import FakeAgent, train, train_under


def tuned_config(shards: Path, base: Path, folder: Path, **adapter: object) -> RunConfig:
    """Three steps of adapters beside the model in `base`."""
    folder.mkdir(exist_ok=True)
    manifest = tiny_manifest(shards, folder / "checkpoints")
    manifest["spec"] |= {"model": {"contextLength": 32, "adapter": adapter}, "initFrom": {"uri": str(base)}}
    manifest["spec"]["training"] |= {"steps": 3, "optimizer": {"learningRate": 0.05}, "schedule": {}}
    (folder / "run.json").write_text(json.dumps(manifest))
    return read_run(folder / "run.json").config(World())


@pytest.fixture(scope="module")
def tuned(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an exported model, `base`, and `checkpoints` of its fine-tuning on four ranks."""
    folder, changes = tmp_path_factory.mktemp("tuned"), ("training.steps=2",)
    assert run_ranks(train, 1, tiny_config(shards, folder / "first", changes)) == [0]
    assert main(("export", str(folder / "first" / "checkpoints"), str(folder / "base"))) == 0
    config = tuned_config(
        shards, folder / "base", folder, rank=4, alpha=16.0, targetModules=["blocks.*", "head"]
    )
    layout = config.parallelism.model_copy(update={"tensor": 2})
    assert run_ranks(train, 4, config.model_copy(update={"parallelism": layout})) == [0] * 4
    return folder


def logits(model: torch.nn.Module) -> torch.Tensor:
    tokens = torch.arange(5, 25)[None]
    with torch.inference_mode():
        answer = model.eval()(tokens)
    whole: torch.Tensor = getattr(answer, "logits", answer)
    return whole


def test_frozen_weights_keep_their_bits(tuned: Path) -> None:
    before = whole_tensors(CheckpointStore(tuned / "first" / "checkpoints"), 2)
    after = whole_tensors(CheckpointStore(tuned / "checkpoints"), 3)

    weights = {name for name in before if name.startswith("model.")}
    assert all(torch.equal(before[name], after[name]) for name in nonempty(weights))
    added = {name for name in after if name.startswith("model.")} - weights
    assert added
    assert all(is_adapter_parameter(name) and after[name].any() for name in added)
    moments = {name for name in after if name.startswith("optimizer.")}
    assert moments == {
        f"optimizer.{moment}.{name.removeprefix('model.')}"
        for moment in ("exp_avg", "exp_avg_sq")
        for name in added
    }


def test_an_export_is_the_adapted_model(tuned: Path, tmp_path: Path) -> None:
    ours, _ = load(find_newest_whole(str(tuned / "checkpoints")))
    base, _ = load(find_newest_whole(str(tuned / "first" / "checkpoints")))
    assert main(("export", str(tuned / "checkpoints"), str(tmp_path / "merged"))) == 0

    theirs, problems = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", output_loading_info=True)

    assert not any(problems.values())
    assert (logits(ours) - logits(base)).abs().max().item() > 0.1
    assert (logits(theirs) - logits(ours)).abs().max().item() <= 1e-5


def add_as_peft_does(folder: Path, model: Any) -> None:
    """What PEFT 0.18 makes of an adapter's folder, in place."""
    settings = json.loads((folder / "adapter_config.json").read_text())
    tensors = load_file(folder / "adapter_model.safetensors")
    with torch.no_grad():
        for module in settings["target_modules"]:
            a, b = (tensors.pop(f"base_model.model.{module}.lora_{matrix}.weight") for matrix in "AB")
            rank = settings["rank_pattern"].get(module, settings["r"])
            alpha = settings["alpha_pattern"].get(module, settings["lora_alpha"])
            assert a.shape[0] == b.shape[1] == rank
            product = alpha / rank * b @ a
            model.get_submodule(module).weight.add_(product.T if settings["fan_in_fan_out"] else product)
    assert not tensors


def test_adapters_alone_are_for_the_folder_that_they_stand_beside(tuned: Path, tmp_path: Path) -> None:
    ours, _ = load(find_newest_whole(str(tuned / "checkpoints")))
    assert main(("export", "--adapter", str(tuned / "checkpoints"), str(tmp_path / "adapter"))) == 0
    settings = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == str(tuned / "base")

    theirs = AutoModelForCausalLM.from_pretrained(settings["base_model_name_or_path"])
    add_as_peft_does(tmp_path / "adapter", theirs)

    assert (logits(theirs) - logits(ours)).abs().max().item() <= 1e-5


@pytest.mark.parametrize(
    ("family", "opener", "targets"),
    [
        pytest.param(Family.LLAMA, AutoModelForCausalLM, ["blocks.*", "head"], id="llama"),
        # Of GPT-2, query and value are parts of one matrix of transformers.
        pytest.param(Family.GPT2, AutoModelForCausalLM, ["query", "value", "down"], id="gpt2"),
        pytest.param(Family.BERT, AutoModelForMaskedLM, ["blocks.*", "transform"], id="bert"),
        pytest.param(Family.T5, AutoModelForSeq2SeqLM, ["query", "cross_attention.*", "up"], id="t5"),
    ],
)
def test_every_familys_adapters_are_written_merged_and_alone(
    tmp_path: Path, family: Family, opener: Any, targets: list[str]
) -> None:
    model = model_of(family, adapter={"rank": 3, "alpha": 6.0, "target_modules": targets})
    network = build_network(shape_of(model)).eval()
    fill(network, 0.1)
    parameters = {name: parameter.detach() for name, parameter in network.named_parameters()}
    for name, parameter in parameters.items():
        if name.endswith(".adapter.b"):
            parameter.normal_(0, 0.1, generator=torch.Generator().manual_seed(4))
    weights = {
        name: tuple(parameter.shape)
        for name, parameter in parameters.items()
        if not is_adapter_parameter(name)
    }

    def whole(names: Sequence[str]) -> dict[str, torch.Tensor]:
        return {name: parameters[name] for name in names}

    write_folder(tmp_path / "base", model, weights, whole, None)
    write_folder(tmp_path / "merged", model, weights, with_merged_adapters(whole, model), None)
    write_adapter(tmp_path / "adapter", shape_of(model), model, None, whole)

    base, merged = (opener.from_pretrained(tmp_path / name).eval() for name in ("base", "merged"))
    tokens, more = some_tokens(), {}
    if family is Family.T5:
        more = {"decoder_input_ids": some_tokens(seed=2)}
    with torch.inference_mode():
        ours = network(tokens, decoder_tokens=some_tokens(seed=2))
        assert (base(tokens, **more).logits - ours).abs().max().item() > 0.01
        assert (merged(tokens, **more).logits - ours).abs().max().item() <= 1e-5
    add_as_peft_does(tmp_path / "adapter", base)
    with torch.inference_mode():
        assert (base(tokens, **more).logits - ours).abs().max().item() <= 1e-5


def test_text_is_generated_with_the_adapters(tuned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(("generate", str(tuned / "checkpoints"), "abc", "--max-new-tokens", "3", "--temperature", "0"))
        == 0
    )
    assert capsys.readouterr().out.startswith("abc")


@pytest.mark.parametrize(
    ("adapter", "complaint"),
    [
        pytest.param(
            {"targetModules": ["q_proj"]}, "no linear layer matches q_proj; names are query,", id="name"
        ),
        pytest.param(
            {"rank": 32, "targetModules": ["key"]}, "rank 32 is above the smaller side of", id="rank"
        ),
    ],
)
def test_what_cannot_be_adapted_ends_the_run_at_once(
    shards: Path, tmp_path: Path, adapter: dict[str, object], complaint: str
) -> None:
    config = tiny_config(shards, tmp_path, [f"model.adapter={json.dumps(adapter)}"])

    (ended,) = run_ranks(train_under, 1, FakeAgent(), config)

    assert ended.code == ExitCode.CONFIG
    assert complaint in ended.stderr


def test_there_is_no_adapter_to_export_without_one(
    tuned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = str(tuned / "first" / "checkpoints")

    assert main(("export", "--adapter", first, str(tmp_path / "out"))) == ExitCode.CONFIG

    assert "run tiny was trained without model.adapter; remove --adapter" in capsys.readouterr().err
