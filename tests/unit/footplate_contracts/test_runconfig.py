"""What `resolve` fills in, and what a digest depends on."""

from __future__ import annotations

import re
from typing import Any

import pytest

from footplate_contracts.families import resolve_model
from footplate_contracts.names import Backend
from footplate_contracts.runconfig import (
    RunConfig,
    RunIdentity,
    World,
    resolve,
    resolve_loss,
    resolve_optimizer,
    resolve_schedule,
)
from footplate_contracts.v1alpha1.model import Activation, Architecture, Bias, Family, Model, Norm, NormName
from footplate_contracts.v1alpha1.presets import resolve_ppo
from footplate_contracts.v1alpha1.reinforcement import Reinforcement
from footplate_contracts.v1alpha1.training import Loss, Optimizer, Schedule
from footplate_contracts.v1alpha1.trainingrun import TrainingRunSpec

IDENTITY = RunIdentity(name="r", namespace="n", uid="u")
WORLD = World(nodes=2, processes_per_node=2, backend=Backend.GLOO)


def model(**changes: Any) -> Model:
    """A small network."""
    base = {
        "layers": 4,
        "hidden_size": 128,
        "attention_heads": 4,
        "vocabulary_size": 4096,
        "context_length": 128,
    }
    return Model(**(base | changes))


def spec(training: dict[str, Any] | None = None, **changes: Any) -> TrainingRunSpec:
    """A small run."""
    length = training or {"steps": 300}
    return TrainingRunSpec.from_json(
        {
            "model": model().to_json(),
            "data": {"uri": "/shared/data"},
            "training": {"globalBatchSize": 16, "optimizer": {"learningRate": 6e-4}, **length},
            "compute": {"profile": "local-cpu", "nodes": 2},
            "checkpoint": {"uri": "/shared/checkpoints"},
            **changes,
        }
    )


@pytest.mark.parametrize(
    ("changes", "field", "expected"),
    [
        # 8/3 x hidden, up to a multiple of 32
        pytest.param({}, "feed_forward_size", 352, id="feed-forward-rounded-up"),
        pytest.param({"hidden_size": 96}, "feed_forward_size", 256, id="feed-forward-exact"),
        pytest.param(
            {"hidden_size": 4096, "attention_heads": 32}, "feed_forward_size", 10944, id="feed-forward-wide"
        ),
        pytest.param({"feed_forward_size": 500}, "feed_forward_size", 500, id="feed-forward-stated"),
        pytest.param({}, "key_value_heads", 4, id="multi-head"),
        pytest.param({"key_value_heads": 1}, "key_value_heads", 1, id="multi-query"),
        pytest.param({}, "head_size", 32, id="head-size"),
        pytest.param({"head_size": 64}, "head_size", 64, id="head-size-stated"),
        pytest.param({"family": Family.GPT2}, "feed_forward_size", 512, id="feed-forward-without-gate"),
        pytest.param({"family": Family.GPT2}, "tied_embeddings", True, id="gpt2-ties"),
        pytest.param(
            {"family": Family.GPT2, "tied_embeddings": False}, "tied_embeddings", False, id="unless-told"
        ),
        pytest.param({"family": Family.GPT2}, "activation", Activation.GELU_TANH, id="gpt2-gelu"),
        pytest.param({"architecture": Architecture.ENCODER}, "family", Family.BERT, id="an-encoder-is-bert"),
        pytest.param({"family": Family.BERT}, "token_types", 2, id="bert-tells-segments-apart"),
        pytest.param({"family": Family.T5}, "architecture", Architecture.ENCODER_DECODER, id="t5-is-two"),
        pytest.param({"family": Family.T5}, "decoder_layers", 4, id="as-deep-behind"),
        pytest.param({}, "norm", Norm(name=NormName.RMS, epsilon=1e-5), id="llama-norm"),
        pytest.param({"family": Family.QWEN2}, "norm", Norm(name=NormName.RMS, epsilon=1e-6), id="qwen-norm"),
        pytest.param(
            {"family": Family.QWEN2},
            "bias",
            Bias(query_key_value=True, output=False, feed_forward=False),
            id="qwen-biases",
        ),
    ],
)
def test_model_defaults(changes: dict[str, Any], field: str, expected: Any) -> None:
    assert getattr(resolve_model(model(**changes)), field) == expected


@pytest.mark.parametrize(
    ("training", "steps"),
    [
        pytest.param({"steps": 7}, 7, id="stated"),
        # 16 sequences x 128 tokens = 2048 tokens a step
        pytest.param({"tokens": 2048}, 1, id="exact"),
        pytest.param({"tokens": 2049}, 2, id="rounded-up"),
        pytest.param({"tokens": 1}, 1, id="less-than-a-step"),
        pytest.param({"tokens": 2_500_000_000}, 1_220_704, id="many"),
    ],
)
def test_length_in_steps(training: dict[str, int], steps: int) -> None:
    assert resolve(spec(training), IDENTITY, WORLD).training.steps == steps


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"model": None}, "model is required: the shape of the network", id="no-model"),
        pytest.param({"training": {"steps": None}}, "set training.steps or training.tokens", id="no-length"),
        pytest.param(
            {"model": model(hidden_size=None).to_json()},
            "model.hiddenSize None and model.attentionHeads 4: both are required",
            id="no-size",
        ),
    ],
)
def test_what_the_rules_would_have_refused_names_field_and_remedy(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        resolve(spec(**changes), IDENTITY, WORLD)


@pytest.mark.parametrize(
    ("given", "filled"),
    [
        pytest.param({}, {"betas": [0.9, 0.95], "epsilon": 1e-8, "weightDecay": 0.1}, id="adamw"),
        pytest.param(
            {"name": "adam"}, {"betas": [0.9, 0.95], "epsilon": 1e-8, "weightDecay": 0.0}, id="adam"
        ),
        pytest.param(
            {"name": "sgd", "momentum": 0.9},
            {"momentum": 0.9, "nesterov": False, "weightDecay": 0.0},
            id="sgd",
        ),
        pytest.param({"name": "adafactor", "weightDecay": 0.5}, {"weightDecay": 0.5}, id="adafactor"),
    ],
)
def test_optimizer_defaults(given: dict[str, Any], filled: dict[str, Any]) -> None:
    optimizer = resolve_optimizer(Optimizer.from_json({"learningRate": 0.5, **given}))
    assert optimizer.to_json() == {"name": given.get("name", "adamw"), "learningRate": 0.5, **filled}


def test_loss_defaults() -> None:
    assert resolve_loss(Loss(name="contrastive")).temperature == 0.05
    assert resolve_loss(Loss()).temperature is None


@pytest.mark.parametrize(
    ("given", "decay_share"),
    [
        pytest.param({"name": "wsd"}, 0.2, id="wsd"),
        pytest.param({"name": "wsd", "decay_share": 0.0}, 0.0, id="wsd-stated"),
        pytest.param({}, None, id="cosine-has-none"),
    ],
)
def test_schedule_defaults(given: dict[str, Any], decay_share: float | None) -> None:
    assert resolve_schedule(Schedule(**given)).decay_share == decay_share


def test_nothing_is_left_to_guess() -> None:
    """Of the fields with behaviour in this release none is absent."""
    config = resolve(spec({"tokens": 4096}), IDENTITY, WORLD)
    assert None not in (
        config.model.feed_forward_size,
        config.model.key_value_heads,
        config.model.head_size,
        config.training.steps,
        config.data.uri,
    )


def test_a_mounted_file_is_read_back_whole() -> None:
    config = resolve(spec(), IDENTITY, WORLD)
    assert RunConfig.model_validate_json(config.model_dump_json(by_alias=True)) == config
    assert RunConfig.from_json(config.to_json()).digest() == config.digest()


def test_digest_is_the_same_on_every_machine() -> None:
    """A changed digest makes new ConfigMaps for all runs: it changes with the contracts only."""
    digest = resolve(spec(), IDENTITY, WORLD).digest()
    assert digest == DIGEST


DIGEST = "edbb30b467c57ea5ab41f6b63ab5ae07ea2f7e985e4359dfa081f2ee54484486"


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"training": {"steps": 301}}, id="training"),
        pytest.param({"data": {"uri": "/elsewhere"}}, id="data"),
        pytest.param({"checkpoint": {"uri": "/shared/checkpoints", "keepLast": 9}}, id="checkpoint"),
        pytest.param({"parallelism": {"sharding": "none"}}, id="parallelism"),
    ],
)
def test_what_ranks_read_changes_the_digest(changes: dict[str, Any]) -> None:
    base = resolve(spec(), IDENTITY, WORLD)
    assert resolve(spec(**changes), IDENTITY, WORLD).digest() != base.digest()


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"suspend": True}, id="suspend"),
        pytest.param({"resilience": {"restartLimits": {"Hang": 9}}}, id="restart-limits"),
        pytest.param({"ttlSecondsAfterFinished": 9}, id="ttl"),
    ],
)
def test_what_ranks_do_not_read_leaves_the_digest(changes: dict[str, Any]) -> None:
    assert resolve(spec(**changes), IDENTITY, WORLD).digest() == resolve(spec(), IDENTITY, WORLD).digest()


@pytest.mark.parametrize(
    ("placement", "estimator"),
    [pytest.param(None, "k1", id="in-rewards"), pytest.param("loss", "k3", id="in-the-loss")],
)
def test_the_usual_estimator_has_a_gradient_where_one_is_wanted(
    placement: str | None, estimator: str
) -> None:
    """In expectation that of k1 is 0."""
    kl = {} if placement is None else {"placement": placement}
    assert resolve_ppo(Reinforcement.model_validate({"kl": kl})).kl.estimator == estimator
