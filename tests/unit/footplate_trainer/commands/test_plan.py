"""What a run would be on many ranks, from its file alone."""

from __future__ import annotations

import json
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from footplate_contracts.names import ExitCode
from footplate_contracts.runconfig import RunConfig, World
from footplate_contracts.v1alpha1.rollout import Rollout, RolloutParallelism
from footplate_contracts.v1alpha1.training import Stage
from footplate_planning.flops import Convention, flops_per_token
from footplate_planning.memory import MemoryKind
from footplate_planning.plan import Plan, build_plan
from footplate_trainer.__main__ import main
from footplate_trainer.commands.plan import as_json, as_text, frozen_shapes, value_model_shape
from footplate_trainer.manifest.run_file import read_run
from tests.support.plain_llama import random_weights, write
from tests.support.tiny import tiny_config

LLAMA_405B: dict[str, Any] = {
    "apiVersion": "footplate.dev/v1alpha1",
    "kind": "TrainingRun",
    "metadata": {"name": "llama-405b"},
    "spec": {
        "model": {
            "layers": 126,
            "hiddenSize": 16_384,
            "feedForwardSize": 53_248,
            "attentionHeads": 128,
            "keyValueHeads": 8,
            "vocabularySize": 128_256,
            "contextLength": 8192,
        },
        "data": {"uri": "/shared/shards"},
        "training": {
            "steps": 1000,
            "globalBatchSize": 2048,
            "precision": "bf16",
            "optimizer": {"learningRate": 8e-5},
        },
        "parallelism": {"tensor": 8, "pipeline": 16},
        "compute": {"profile": "h100"},
        "checkpoint": {"uri": "/shared/checkpoints"},
    },
}


def file(folder: Path) -> Path:
    path = folder / "run.json"
    path.write_text(json.dumps(LLAMA_405B))
    return path


@cache
def planned(ranks: int, *overrides: str, device: str = "cuda") -> Plan:
    return build_plan(resolved(overrides), ranks, device)


@cache
def resolved(overrides: tuple[str, ...]) -> RunConfig:
    with tempfile.TemporaryDirectory() as folder:
        return read_run(file(Path(folder)), overrides).config(World())


def test_a_plan_of_the_largest_llama() -> None:
    made = planned(16_384)
    assert made.shape.parameters == 405_853_388_800
    assert (made.topology.data, made.batch.count, len(made.ranks)) == (128, 16, 16)
    assert [number for rank in made.ranks for number in rank.layers] == list(range(126))
    assert sum(rank.memory.bytes[MemoryKind.PARAMETERS] for rank in made.ranks) * 1024 == pytest.approx(
        4 * made.shape.parameters, rel=1e-3
    )


@pytest.mark.parametrize(
    "overrides",
    [
        pytest.param([], id="pipeline-and-tensor"),
        pytest.param(["parallelism.pipeline=1"], id="tensor"),
        pytest.param(["parallelism={context: 4}"], id="context"),
        pytest.param(["model.tiedEmbeddings=true"], id="tied"),
    ],
)
def test_the_ranks_share_the_steps_work(overrides: list[str]) -> None:
    made = planned(1024, *overrides)
    alike = made.topology.world_size // made.topology.pipeline
    for convention, done in (
        (Convention.FULL, sum(rank.flops for rank in made.ranks)),
        (Convention.CAUSAL, sum(rank.flops_causal for rank in made.ranks)),
    ):
        step = made.step_tokens * flops_per_token(made.shape, made.shape.context, convention)
        assert alike * done == pytest.approx(step, rel=1e-4)


@pytest.mark.parametrize(
    ("less", "more"),
    [
        pytest.param([], ["parallelism.sharding=none"], id="shards-spare-state"),
        pytest.param(["parallelism.tensor=8"], ["parallelism.tensor=4"], id="tensor-ranks-spare"),
        pytest.param([], ["training.precision=fp32"], id="bf16-spares-activations"),
        pytest.param(
            ["training.microBatchSize=1"], ["training.microBatchSize=2"], id="micro-batches-cost-activations"
        ),
        pytest.param([], ["parallelism.pipelineSchedule=GPipe"], id="gpipe-keeps-all-micro-batches"),
        pytest.param([], ["model.attention.backend=eager"], id="eager-attention-keeps-scores"),
        pytest.param(["parallelism.offload=cpu"], [], id="shards-in-the-hosts-memory"),
        pytest.param(["model.adapter={rank: 16}"], [], id="frozen-weights-have-no-moments"),
    ],
)
def test_what_costs_memory(less: list[str], more: list[str]) -> None:
    small, large = (
        max(rank.memory.peak for rank in planned(2048, *overrides).ranks) for overrides in (less, more)
    )
    assert small < large


def test_it_is_printed_for_persons_and_programs() -> None:
    made = planned(1024)
    assert "mesh: pipeline 16 x data 8 x context 1 x tensor 8" in as_text(made)
    assert "bubble: 5.5% of a step" in as_text(made)
    assert as_json(made)["bubble"] == pytest.approx(15 / 271)  # 256 micro-batches
    row = as_json(made)["ranksByPipeline"][3]
    assert row["layers"] == made.ranks[3].layers
    assert row["memoryBytes"]["peak"] == made.ranks[3].memory.peak
    sent = {(load["axis"], load["call"]): (load["calls"], load["bytes"]) for load in row["trafficPerStep"]}
    state = 8192 * 16_384 * 2 // 8  # bf16, this tensor rank's piece of a sequence
    assert sent["pipeline", "send"] == (2 * 256, 2 * 256 * state)
    assert sent["tensor", "all-gather"] == (8 * 4 * 256, 8 * 4 * 256 * state)


def test_adapters_are_counted_beside_what_is_frozen() -> None:
    queries = "model.adapter={rank: 16, targetModules: [query]}"
    made = planned(1024, queries, "parallelism={tensor: 8, pipeline: 2}")

    adapters = 126 * 16 * (16_384 + 16_384)
    assert as_text(made).startswith(
        f"run llama-405b: 405,853,388,800 parameters, frozen, and {adapters:,} of adapters on 1,024 ranks"
    )
    plain = as_json(made)
    assert plain["parameters"] == 405_853_388_800 + adapters
    assert plain["trainedParameters"] == adapters
    trained = [rank["trainedParameters"] for rank in plain["ranksByPipeline"]]
    assert sum(trained) == 126 * 16 * (16_384 + 16_384 // 8), "A is whole on every tensor rank"
    assert plain["flopsPerToken"]["6N"] == 4 * 405_853_388_800 + 6 * adapters


def test_a_reward_model_and_a_value_model_are_counted(tmp_path: Path) -> None:
    weights = random_weights(17, "score")
    judge = write(tmp_path / "judge", weights)
    asked = (
        "stage=ppo",
        f"reward.uri={judge}",
        "rollout={maxTokens: 16}",
        "training.optimizer={name: adam, learningRate: 0.001}",
    )
    ppo = tiny_config(Path("/shards"), tmp_path, asked)
    made = build_plan(ppo, 1, "cpu", frozen_shapes(ppo, 1), value_model_shape(ppo, 1))
    score = sum(weight.numel() for weight in weights.values())
    assert as_json(made)["valueParameters"] == score
    assert as_json(made)["frozenParameters"] == [made.shape.parameters, score], "the reference, and the judge"
    lines = as_text(made).splitlines()
    assert f"beside it: {score:,} parameters of the value model, trained with it" in lines
    assert f"beside it: {score:,} parameters of the reward model, evaluated but not trained" in lines
    alone = build_plan(ppo, 1, "cpu", frozen_shapes(ppo, 1))
    here, without = (found.ranks[0].memory.bytes for found in (made, alone))
    kinds = (MemoryKind.PARAMETERS, MemoryKind.MOMENTS, MemoryKind.GRADIENTS)
    assert [here[kind] - without[kind] for kind in kinds] == [4 * score, 8 * score, 4 * score]


def test_a_frozen_reference_is_counted_and_adapters_need_none() -> None:
    dpo = resolved(("stage=dpo", "parallelism={tensor: 8, pipeline: 2}"))
    made = build_plan(dpo, 1024, "cuda", frozen_shapes(dpo, 1024))
    assert as_text(made).splitlines()[1] == (
        "beside it: 405,853,388,800 parameters of the reference, evaluated but not trained"
    )
    assert as_json(made)["frozenParameters"] == [405_853_388_800]
    assert "frozen" in as_text(made).splitlines()[-3]
    adapters = resolved(("stage=dpo", "model.adapter={rank: 16, alpha: 16}"))
    assert frozen_shapes(adapters, 1024) == []


def test_a_rollout_is_planned_beside_the_step() -> None:
    rollout = Rollout(
        max_tokens=1024,
        generation_batch_size=2048,
        parallelism=RolloutParallelism(tensor=8, pipeline=4),
        cache_tokens=100_000,
    )
    made = build_plan(resolved(()).model_copy(update={"rollout": rollout}), 1024, "cuda")

    plain = as_json(made)["rollout"]
    assert plain["mesh"] == {"pipeline": 4, "data": 32, "tensor": 8}
    assert (plain["answers"], plain["cacheTokens"]) == (64, 100_000)
    ranks = plain["ranksByPipeline"]
    norms = (2 * 126 + 1) * 16_384  # whole on each tensor rank
    assert sum(rank["weightBytes"] for rank in ranks) == 2 * ((405_853_388_800 - norms) // 8 + norms)
    token = 2 * 126 * 8 * 128 * 2 // 8  # one of the eight heads
    assert sum(rank["cacheBytes"] for rank in ranks) == 100_000 * token
    assert "rollout: 32 copies of pipeline 4 x tensor 8" in as_text(made)


def test_where_nothing_trains_ranks_hold_parameters_and_what_generates() -> None:
    trained = build_plan(resolved(()).model_copy(update={"rollout": Rollout(max_tokens=8)}), 1024, "cuda")
    made = build_plan(trained.config.model_copy(update={"stage": Stage.GENERATE}), 1024, "cuda")
    for row, other in zip(made.ranks, trained.ranks, strict=True):
        assert row.memory.bytes == {MemoryKind.PARAMETERS: other.memory.bytes[MemoryKind.PARAMETERS]}
        assert (row.trained, row.flops, row.traffic) == (0, 0.0, {})
    assert made.rollout == trained.rollout
    text = as_text(made)
    assert "step: a rollout; nothing is trained" in text
    assert "optimizer" not in text
    assert "FLOPs:" not in text


def test_without_a_bound_a_rollout_keeps_keys_of_all_that_is_under_way() -> None:
    made = build_plan(resolved(()).model_copy(update={"rollout": Rollout(max_tokens=8)}), 1024, "cuda")

    assert made.rollout is not None
    assert (made.rollout.answers, made.rollout.cache_tokens) == (
        2,
        2 * 8192,
    )  # a batch of 2,048 on 1,024 copies


def test_keys_and_values_of_a_rollout_fit_into_what_memory_is_left() -> None:
    config = resolved(()).model_copy(
        update={"rollout": Rollout(max_tokens=8, generation_batch_size=1024 * 8)}
    )
    whole = build_plan(config, 1024, "cuda").rollout
    assert whole is not None and not whole.short
    held = max(row.memory.resident for row in build_plan(config, 1024, "cuda").ranks) + max(whole.weights)
    room = max(whole.cache) // 2

    made = build_plan(config, 1024, "cuda", rank_memory=held + room).rollout
    assert made is not None and not made.short
    assert 0.85 * room < max(made.cache) <= 0.9 * room
    less = build_plan(config, 1024, "cuda", rank_memory=held + max(whole.cache) // 10)
    assert less.rollout is not None and less.rollout.short
    assert "lower rollout.maxTokens" in as_text(less) and "short" in as_json(less)["rollout"]


@pytest.mark.parametrize(("text", "code"), [("80Gi", ExitCode.SUCCESS), ("much", None)])
def test_memory_is_a_quantity(text: str, code: ExitCode | None, tmp_path: Path) -> None:
    arguments = ["plan", str(file(tmp_path)), "--ranks", "1024", "--memory", text]
    if code is None:
        with pytest.raises(SystemExit):
            main(arguments)
    else:
        assert main(arguments) == code


def test_ranks_that_form_no_grid_are_refused_with_the_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", str(file(tmp_path)), "--ranks", "100"]) == ExitCode.CONFIG
    assert "100 ranks cannot be divided into slices of tensor 8 x" in capsys.readouterr().err


def test_a_plan_takes_no_time(tmp_path: Path) -> None:
    started = time.process_time()
    build_plan(read_run(file(tmp_path), ()).config(World()), 16_384, "cuda")
    assert time.process_time() - started < 2.0
