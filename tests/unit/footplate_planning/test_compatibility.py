"""What is refused before any rank starts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from footplate_contracts.runconfig import RunConfig
from footplate_contracts.v1alpha1.adapter import Adapter
from footplate_contracts.v1alpha1.model import Architecture, Dropout, InitFrom
from footplate_contracts.v1alpha1.parallelism import PipelineSchedule
from footplate_contracts.v1alpha1.rollout import Rollout, RolloutParallelism
from footplate_contracts.v1alpha1.training import ActivationCheckpointing, Loss
from footplate_planning.compatibility import Feature, features, find_problems, find_rollout_problems
from footplate_planning.config import model_shape
from tests.support.tiny import tiny_config


def changed(config: RunConfig, part: str, **fields: object) -> RunConfig:
    return config.model_copy(update={part: getattr(config, part).model_copy(update=fields)})


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    return tiny_config(tmp_path, tmp_path)


def test_a_run_of_one_rank_has_no_problem(config: RunConfig) -> None:
    assert find_problems(config, 1) == []
    assert features(config) == [Feature.FULL]


@pytest.mark.parametrize(
    ("part", "fields", "world_size", "problem"),
    [
        pytest.param("parallelism", {"tensor": 2}, 3, "3 ranks cannot be divided", id="ranks"),
        pytest.param(
            "parallelism",
            {"tensor": 8},
            8,
            "model.attentionHeads 4 is not a multiple of parallelism.tensor 8; use 8",
            id="heads",
        ),
        pytest.param(
            "parallelism",
            {"tensor": 3},
            3,
            "model.keyValueHeads 2 and parallelism.tensor 3: one must be a multiple of the other",
            id="key-value-heads",
        ),
        pytest.param(
            "model",
            {"context_length": 36},
            8,
            "model.contextLength 36 cannot be split into 8 equal pieces for context 4 x tensor 2;"
            " use a multiple of 8",
            id="sequence",
        ),
        pytest.param(
            "parallelism",
            {"pipeline": 4},
            4,
            "model.layers 2 are fewer than the 4 stages of pipeline 4 x virtualStages 1;"
            " each stage needs a layer",
            id="layers",
        ),
        pytest.param(
            "training",
            {"micro_batch_size": 8},
            2,
            "globalBatchSize 8 / microBatchSize 8 over 1 data-parallel ranks makes 1 micro-batches,"
            " and 1F1B needs at least as many as pipeline 2",
            id="micro-batches",
        ),
    ],
)
def test_what_cannot_work_is_told_with_its_numbers(
    config: RunConfig, part: str, fields: dict[str, object], world_size: int, problem: str
) -> None:
    if part == "model":
        config = changed(config, "parallelism", tensor=2, context=4)
    if part == "training":
        config = changed(config, "parallelism", pipeline=2)
    config = changed(config, part, **fields)

    assert any(found.startswith(problem) for found in find_problems(config, world_size))


@pytest.mark.parametrize(
    ("init_from", "remedy"),
    [
        pytest.param(None, "use 260", id="of-ones-own"),
        pytest.param(
            InitFrom(uri="/models/one"),
            "use 260, with model.resizeTokenEmbeddings to enlarge that of initFrom",
            id="of-a-folder",
        ),
    ],
)
def test_a_vocabulary_that_cannot_be_cut_is_told_how_it_could(
    config: RunConfig, init_from: InitFrom | None, remedy: str
) -> None:
    config = changed(changed(config, "model", vocabulary_size=257), "parallelism", tensor=4)
    config = config.model_copy(update={"init_from": init_from})

    assert find_problems(config, 4) == [
        f"model.vocabularySize 257 is not a multiple of parallelism.tensor 4; {remedy}"
    ]


@pytest.mark.parametrize(
    ("adapter", "problem"),
    [
        pytest.param(
            Adapter(alpha=1.0, target_modules=["query", "q_proj"]),
            "model.adapter.targetModules: no linear layer matches q_proj; names are query, key, value,"
            " output, gate, up, down, head, in full such as blocks.0.attention.query",
            id="unknown-layer",
        ),
        pytest.param(
            Adapter(alpha=1.0, rank=17),
            "model.adapter.rank 17 is above the smaller side of blocks.0.attention.key, which has 32 inputs"
            " and 16 outputs; use at most 16",
            id="rank",
        ),
    ],
)
def test_an_adapter_that_cannot_be_is_told_what_could(
    config: RunConfig, adapter: Adapter, problem: str
) -> None:
    assert find_problems(changed(config, "model", adapter=adapter), 1) == [problem]


def test_an_adapter_of_a_head_without_use_is_refused(config: RunConfig) -> None:
    config = changed(config, "model", adapter=Adapter(alpha=1.0, target_modules=["head"]))
    assert find_problems(config, 1) == []

    (problem,) = find_problems(changed(config, "training", loss=Loss(name="contrastive")), 1)

    assert problem.startswith("model.adapter.targetModules: loss contrastive does not use head")


@pytest.mark.parametrize("schedule", ["Interleaved1F1B", "InterleavedZeroBubble"])
def test_interleaved_schedules_want_whole_rounds(config: RunConfig, schedule: str) -> None:
    config = changed(config, "parallelism", pipeline=2, virtual_stages=1, pipeline_schedule=schedule)
    config = changed(config, "training", global_batch_size=5, micro_batch_size=1)

    (problem,) = find_problems(config, 2)

    assert problem.endswith(
        "makes 5 micro-batches, and " + schedule + " needs a multiple of its 2 rounds of 2"
    )


@pytest.mark.parametrize("schedule", ["InterleavedZeroBubble", "ZBV"])
def test_a_pair_that_does_not_work_is_refused_with_the_reason(config: RunConfig, schedule: str) -> None:
    config = changed(config, "parallelism", pipeline=1, pipeline_schedule=PipelineSchedule(schedule))
    config = changed(config, "training", activation_checkpointing=ActivationCheckpointing.FULL)
    assert find_problems(config, 1) == [], "a schedule without a pipeline is nothing"

    config = changed(config, "parallelism", pipeline=2)

    (problem,) = find_problems(config, 2)
    assert problem.startswith(
        f"{schedule} and activationCheckpointing do not work together: a zero-bubble schedule"
    )


@pytest.mark.parametrize(
    ("ranks", "degrees", "message"),
    [
        pytest.param(
            6,
            {"tensor": 2, "pipeline": 2},
            "6 ranks cannot be divided into copies of rollout.parallelism.tensor 2 x"
            " rollout.parallelism.pipeline 2 = 4; use degrees that divide them",
            id="ranks",
        ),
        pytest.param(
            8,
            {"tensor": 8},
            "model.attentionHeads 4 is not a multiple of rollout.parallelism.tensor 8; use 8",
            id="heads",
        ),
        pytest.param(
            3,
            {"tensor": 3},
            "model.keyValueHeads 2 and rollout.parallelism.tensor 3: one must be a multiple of the other",
            id="key-value-heads",
        ),
        pytest.param(
            4,
            {"pipeline": 4},
            "model.layers 2 are fewer than the stages of rollout.parallelism.pipeline 4; each stage needs a"
            " layer",
            id="layers",
        ),
    ],
)
def test_a_rollout_that_cannot_be_laid_out_is_told_with_its_numbers(
    config: RunConfig, ranks: int, degrees: dict[str, int], message: str
) -> None:
    assert message in find_rollout_problems(model_shape(config), RolloutParallelism(**degrees), ranks)


def test_a_run_is_refused_for_its_rollout(config: RunConfig) -> None:
    rollout = Rollout(max_tokens=8, parallelism=RolloutParallelism(tensor=2))
    asked = config.model_copy(update={"rollout": rollout})

    assert find_problems(asked, 2) == []
    (problem,) = find_problems(asked, 3)
    assert problem.startswith("3 ranks cannot be divided into copies of rollout.parallelism.tensor 2 x")


def test_a_vocabulary_need_not_divide_a_rollout(config: RunConfig) -> None:
    shape = replace(model_shape(config), vocabulary=257)
    assert find_rollout_problems(shape, RolloutParallelism(tensor=2, pipeline=2), 8) == []


def test_only_a_decoder_generates(config: RunConfig) -> None:
    shape = replace(model_shape(config), architecture=Architecture.ENCODER)
    (problem,) = find_rollout_problems(shape, RolloutParallelism(), 1)
    assert "cannot generate; use decoder" in problem


INVARIANT = Rollout(max_tokens=8, batch_invariant=True)


@pytest.mark.parametrize(
    ("part", "fields", "problem"),
    [
        pytest.param("training", {"compile": True}, "compile and batchInvariant do not work", id="compile"),
        pytest.param(
            "model",
            {"dropout": Dropout(attention=0.1)},
            "dropout.attention and batchInvariant do not work",
            id="attention-dropout",
        ),
        pytest.param(
            "model",
            {"dropout": Dropout(hidden=0.1)},
            "model.dropout.hidden 0.1 does not work with rollout.batchInvariant",
            id="dropout",
        ),
        pytest.param(
            "model",
            {"adapter": Adapter(alpha=1.0, dropout=0.2)},
            "model.adapter.dropout 0.2 does not work with rollout.batchInvariant",
            id="dropout-of-adapters",
        ),
    ],
)
def test_what_keeps_bits_from_being_a_samples_own_is_told(
    config: RunConfig, part: str, fields: dict[str, object], problem: str
) -> None:
    asked = changed(config, part, **fields)
    assert find_problems(asked, 1) == []
    (found,) = find_problems(asked.model_copy(update={"rollout": INVARIANT}), 1)
    assert found.startswith(problem)
