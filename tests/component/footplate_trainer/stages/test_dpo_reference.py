"""Where a reference's weights come from: another run, a folder, and always from where the run began."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from footplate_contracts.names import ExitCode
from footplate_contracts.runconfig import RunConfig
from footplate_trainer.checkpoint.lookup import find_newest_whole
from footplate_trainer.errors import UserMistake
from footplate_trainer.huggingface.export import export_checkpoint
from footplate_trainer.huggingface.initial import complete_config
from footplate_trainer.parallel.checksum import weights_checksum
from footplate_trainer.parallel.local_shard import local_shard
from footplate_trainer.parallel.parallel_model import build_model
from footplate_trainer.parallel.world import init_distributed, read_environment
from footplate_trainer.stages.reference import check_reference
from tests.support.layout_list import LAYOUTS, SGD, Layout
from tests.support.layouts import config_of
from tests.support.ranks import run_ranks
from tests.support.stages import CONTEXT, PAIRS_CONTEXT, pack_chats, pack_preferences
from tests.support.tiny import tiny_config
from tests.support.training import Ended, FakeAgent, train_under

SFT = ("stage=sft", f"model.contextLength={CONTEXT}", "checkpoint.everySteps=2")
DPO = ("stage=dpo", f"model.contextLength={PAIRS_CONTEXT}")
OTHER = (
    f"model={{layers: 3, hiddenSize: 16, attentionHeads: 2, vocabularySize: 384, contextLength: {CONTEXT}}}"
)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack_preferences(tmp_path_factory.mktemp("pairs"))


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`checkpoints` of an sft of the shape that dpo has here, and the same `exported`."""
    folder = tmp_path_factory.mktemp("tuned")
    chats = pack_chats(tmp_path_factory.mktemp("chats"))
    end = run(chats, folder, *SFT, f"model.contextLength={PAIRS_CONTEXT}", name="tuned")
    assert end.code == ExitCode.SUCCESS, end.stderr
    export_checkpoint(find_newest_whole(str(folder / "checkpoints")), folder / "exported")
    return folder


def run(
    shards: Path,
    folder: Path,
    *overrides: str,
    name: str = "tiny",
    agent: FakeAgent | None = None,
    ranks: int = 1,
) -> Ended:
    """A whole run, as its first rank saw it."""
    config = tiny_config(shards, folder, overrides)
    config = config.model_copy(update={"run": config.run.model_copy(update={"name": name})})
    end: Ended = run_ranks(train_under, ranks, agent or FakeAgent(), config)[0]
    return end


def losses(end: Ended) -> list[float]:
    assert end.code in (ExitCode.SUCCESS, ExitCode.SUSPENDED), end.stderr
    return [row.loss for row in end.agent.rows]


def reference(uri: Path, more: str = "") -> str:
    return f"preference.reference={{uri: {uri}{more}}}"


def test_a_run_and_what_it_exported_are_one_reference(pairs: Path, tuned: Path, tmp_path: Path) -> None:
    """Begun with the same weights, both give what the starting weights would."""
    begun = (*DPO[:1], f"initFrom={{uri: {tuned / 'exported'}}}", f"model={{contextLength: {PAIRS_CONTEXT}}}")
    expected = losses(run(pairs, tmp_path / "start", *begun))
    assert expected[0] == pytest.approx(0.693147180559945, abs=1e-12)
    assert expected[-1] < 0.6
    for number, uri in enumerate(("checkpoints", "exported", "checkpoints/step-6.e0g0")):
        assert (tuned / uri).is_dir(), sorted(file.name for file in (tuned / "checkpoints").iterdir())
        found = losses(run(pairs, tmp_path / str(number), *begun, reference(tuned / uri)))
        assert found == expected


@pytest.mark.parametrize("field", ["resumeFrom", "initFrom"])
def test_a_run_that_began_with_another_one_compares_with_its_weights(
    field: str, pairs: Path, tuned: Path, tmp_path: Path
) -> None:
    """That one may have gone on training in between."""
    begun = (*DPO, f"{field}={{uri: {tmp_path / 'source'}}}")
    if field == "initFrom":
        begun = (*begun, f"model={{contextLength: {PAIRS_CONTEXT}}}")
    shutil.copytree(tuned / "checkpoints", tmp_path / "source")
    whole = losses(run(pairs, tmp_path / "whole", *begun))
    assert whole[0] == pytest.approx(0.693147180559945, abs=1e-12)
    before = run(pairs, tmp_path / "part", *begun, agent=FakeAgent(suspend_after=2))
    marker = json.loads((tmp_path / "source" / "step-4.committed").read_text())
    (tmp_path / "source" / "step-8.committed").write_text(json.dumps(marker | {"step": 8}))
    assert losses(before) + losses(run(pairs, tmp_path / "part", *begun)) == whole


@pytest.mark.long
def test_a_reference_of_another_shape_is_one(pairs: Path, tmp_path: Path) -> None:
    chats = pack_chats(tmp_path)
    other = run(chats, tmp_path / "other", "stage=sft", OTHER.replace(f"{CONTEXT}}}", f"{PAIRS_CONTEXT}}}"))
    assert other.code == ExitCode.SUCCESS, other.stderr
    alone, shared = (
        losses(
            run(pairs, tmp_path / str(ranks), *DPO, reference(tmp_path / "other/checkpoints"), ranks=ranks)
        )
        for ranks in (1, 2)
    )
    assert alone[0] != pytest.approx(0.6931, abs=1e-3), "it is another model"
    assert shared == pytest.approx(alone, rel=3e-6)


def test_a_reference_that_changed_meanwhile_is_refused(pairs: Path, tuned: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(tuned / "exported", folder)
    begun = (*DPO, reference(folder))
    assert run(pairs, tmp_path, *begun, agent=FakeAgent(suspend_after=2)).code == ExitCode.SUSPENDED
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"rms_norm_eps": 1e-3}))
    with pytest.raises(UserMistake) as refused:
        check_reference(complete_config(tiny_config(pairs, tmp_path, begun)), 1)  # before ranks meet
    told = (
        "its configuration has changed since this run began: model.norm.epsilon was 1e-05, is 0.001; restore "
        "it"
    )
    assert str(refused.value).startswith(f"preference.reference.uri {folder}: {told}")
    shutil.rmtree(folder)
    export_checkpoint(find_newest_whole(str(tuned / "checkpoints" / "step-4.e0g0")), folder)
    end = run(pairs, tmp_path, *begun)
    assert (end.code, end.agent.rows) == (ExitCode.CONFIG, [])
    assert f"the weights in {folder} have changed since this run began" in end.stderr


def test_another_tokenizer_is_refused(pairs: Path, tuned: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(tuned / "exported", folder)
    content = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = content["model"]["vocab"]
    first, second = list(vocabulary)[:2]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    (folder / "tokenizer.json").write_text(json.dumps(content))
    end = run(pairs, tmp_path, *DPO, reference(folder))
    assert (end.code, end.agent.rows) == (ExitCode.CONFIG, [])
    assert f"preference.reference.uri {folder}: its tokenizer differs from the data's: token " in end.stderr


@pytest.mark.parametrize(
    ("model", "says"),
    [
        pytest.param(OTHER, "its model reads at most 96 tokens, but model.contextLength is 224", id="short"),
        pytest.param(
            OTHER.replace(f"{CONTEXT}", f"{PAIRS_CONTEXT}").replace("layers: 3", "layers: 1"),
            "its model does not match the layout of this run: model.layers 1 are fewer than the 2 stages",
            id="few-layers",
        ),
    ],
)
def test_a_reference_that_the_run_cannot_hold_is_refused_before_ranks_meet(
    model: str, says: str, pairs: Path, tmp_path: Path
) -> None:
    other = run(pack_chats(tmp_path), tmp_path / "other", "stage=sft", model)
    assert other.code == ExitCode.SUCCESS, other.stderr
    asked = (*DPO, reference(tmp_path / "other/checkpoints"), "parallelism.pipeline=2")
    end = run(pairs, tmp_path, *asked, ranks=2)
    assert (end.code, end.agent.rows, end.agent.reports) == (ExitCode.CONFIG, [], [])
    assert says in end.stderr and "Traceback" not in end.stderr


@pytest.mark.long
def test_adapters_of_another_run_are_a_part_of_what_it_begins_with(
    tuned: Path, pairs: Path, tmp_path: Path
) -> None:
    adapters = (*DPO, "model.adapter={rank: 4, alpha: 8}")
    first = run(pairs, tmp_path / "first", *adapters)
    assert first.code == ExitCode.SUCCESS, first.stderr
    source = tmp_path / "first" / "checkpoints"
    end = run(pairs, tmp_path / "second", *adapters, f"resumeFrom={{uri: {source}}}")
    assert (end.code, end.agent.rows) == (ExitCode.CONFIG, [])
    assert "has adapters, which are part of the weights that this run starts from" in end.stderr
    named = (*adapters, f"resumeFrom={{uri: {source}}}", reference(source))
    assert losses(run(pairs, tmp_path / "third", *named))[0] == pytest.approx(0.693147180559945, abs=1e-9)


def of_ranks(config: RunConfig) -> tuple[str, str]:
    """One rank: the checksum of the initial weights, and of the same with two columns exchanged."""
    with init_distributed(read_environment(os.environ), config.world.backend) as world:
        named = dict(build_model(config, world).module.named_parameters())
        before = weights_checksum(named, world.background)
        with torch.no_grad():
            for name, parameter in named.items():
                if name == "blocks.0.attention.output.weight":
                    local = local_shard(parameter).local
                    local[:, :2] = local[:, :2].flip(1)
        return before, weights_checksum(named, world.background)


_LISTED = {layout.name: layout for layout in LAYOUTS}


@pytest.mark.parametrize(
    "layout",
    [
        pytest.param(_LISTED[name], id=name, marks=() if name == "tensor-full" else pytest.mark.long)
        for name in ("full", "none", "tensor", "tensor-full", "zbv", "context", "pipeline-tensor-full")
    ],
)
def test_a_checksum_is_of_weights_and_not_of_their_layout(
    layout: Layout, pairs: Path, tmp_path: Path
) -> None:
    [(before, after)] = run_ranks(of_ranks, 1, config_of(_LISTED["one"], SGD, pairs, tmp_path))
    found = run_ranks(of_ranks, layout.ranks, config_of(layout, SGD, pairs, tmp_path))
    assert {checksum for checksum, _ in found} == {before}
    assert before != after
