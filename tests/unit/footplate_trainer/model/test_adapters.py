"""Low-rank adapters: where they may be, what they add, and that nothing else moves."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from footplate_contracts.v1alpha1.model import Activation, Family
from footplate_planning.shape import AdapterShape, ModelShape, is_target
from footplate_trainer.model.dropout import DropoutSeed
from footplate_trainer.model.initialize import initialize_rows
from footplate_trainer.model.inputs import Inputs
from footplate_trainer.model.linear import Linear, LowRankAdapter, is_adapter_parameter
from footplate_trainer.model.loss import summed_cross_entropy
from footplate_trainer.model.network import TransformerNetwork
from footplate_trainer.model.network_factory import build_network
from tests.support.shapes import fill, shape_like, some_tokens

EVERYWHERE = AdapterShape(rank=3, alpha=6.0, targets=("*",))
SHAPES = [
    pytest.param(shape_like(Family.LLAMA, key_value_heads=2), id="llama"),
    pytest.param(shape_like(Family.GPT2), id="gpt2"),
    pytest.param(shape_like(Family.BERT, tied_embeddings=False), id="bert-untied"),
    pytest.param(
        shape_like(Family.T5, decoder_layers=3, activation=Activation.GEGLU, tied_embeddings=False),
        id="t5-gated-untied",
    ),
]


def adapted(shape: ModelShape, adapter: AdapterShape = EVERYWHERE) -> TransformerNetwork:
    model = build_network(replace(shape, adapter=adapter))
    fill(model)
    return model


def logits(model: TransformerNetwork) -> torch.Tensor:
    answer: torch.Tensor = model(some_tokens(), decoder_tokens=some_tokens(seed=2))
    return answer


def disturb(model: TransformerNetwork) -> None:
    """B of every adapter as it might be after training."""
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(".adapter.b"):
                parameter.normal_(0, 0.1, generator=generator)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_linear_layers_are_those_that_are_built(shape: ModelShape) -> None:
    with torch.device("meta"):
        modules = build_network(shape).named_modules()
        built = {
            name: (module.in_features, module.out_features)
            for name, module in modules
            if isinstance(module, Linear)
        }
    assert shape.linear_layers() == built


@pytest.mark.parametrize("shape", SHAPES)
def test_only_adapters_are_trained_and_all_are_counted(shape: ModelShape) -> None:
    model = adapted(shape)
    trained = {
        name: parameter.numel() for name, parameter in model.named_parameters() if parameter.requires_grad
    }

    assert all(map(is_adapter_parameter, trained))
    assert sum(trained.values()) == model.shape.trained_parameters == model.shape.adapter_parameters
    assert sum(parameter.numel() for parameter in model.parameters()) == shape.parameters + sum(
        trained.values()
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_an_adapter_begins_as_nothing(shape: ModelShape) -> None:
    base = build_network(shape).requires_grad_(
        False
    )  # as a bias that is trained takes another kernel of attention
    fill(base)

    model = adapted(shape, AdapterShape(rank=3, alpha=6.0))

    assert torch.equal(logits(model), logits(base))


@pytest.mark.parametrize("shape", SHAPES)
def test_an_adapter_is_a_matrix_of_low_rank_beside_the_weight(shape: ModelShape) -> None:
    """In fp64: weights so wide grow a rounding error a thousandfold, and every CPU has its own."""
    model, merged, base = adapted(shape), build_network(shape), build_network(shape)
    disturb(model)
    for network in (merged, base):
        fill(network)
    for network in (model, merged, base):
        network.double()
    with torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, LowRankAdapter):
                owner = merged.get_submodule(name.removesuffix(".adapter"))
                owner.get_parameter("weight").add_(6.0 / 3 * module.b @ module.a)

    expected = logits(merged)
    largest = expected.abs().max().item()
    assert (expected - logits(base)).abs().max().item() > 0.01 * largest
    assert (logits(model) - expected).abs().max().item() <= 1e-12 * largest


@pytest.mark.parametrize("shape", SHAPES)
def test_every_adapter_and_nothing_else_gets_a_gradient(shape: ModelShape) -> None:
    model = adapted(shape)
    disturb(model)
    (hidden,) = model.forward_stage(inputs=_inputs(some_tokens()))

    summed_cross_entropy(hidden, model.head_weight, some_tokens(seed=3)).backward()

    with_gradient = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert with_gradient == {name for name, _ in model.named_parameters() if is_adapter_parameter(name)}


def _inputs(tokens: torch.Tensor, dropout_seed: DropoutSeed | None = None) -> Inputs:
    return Inputs(tokens, decoder_tokens=some_tokens(seed=2), dropout_seed=dropout_seed)


@pytest.mark.parametrize(
    ("layer", "pattern", "matches"),
    [
        pytest.param("blocks.0.attention.query", "query", True, id="last-name"),
        pytest.param("blocks.0.attention.query", "attention.query", True, id="two-names"),
        pytest.param("blocks.0.cross_attention.query", "attention.query", False, id="whole-names"),
        pytest.param("blocks.1.feed_forward.up", "blocks.1.*", True, id="a-block"),
        pytest.param("blocks.11.feed_forward.up", "blocks.1.*", False, id="another-block"),
        pytest.param("head", "head", True, id="head"),
        pytest.param("head", "blocks.*", False, id="not-in-blocks"),
        pytest.param("transform", "form", False, id="part-of-a-name"),
    ],
)
def test_layers_are_named_by_the_end_of_their_names(layer: str, pattern: str, matches: bool) -> None:
    assert is_target(layer, pattern) is matches


def test_a_begins_with_the_variance_of_a_linear_layer() -> None:
    a, b = torch.empty(64, 400), torch.empty(400, 64)
    initialize_rows(a, "blocks.0.attention.query.adapter.a", 0, seed=1, standard_deviation=0.02)
    initialize_rows(b, "blocks.0.attention.query.adapter.b", 0, seed=1, standard_deviation=0.02)

    assert a.std().item() == pytest.approx((3 * 400) ** -0.5, rel=0.02)
    assert not b.any()


def test_what_an_adapter_reads_is_dropped_in_training_only() -> None:
    adapter = LowRankAdapter(8, 8, AdapterShape(rank=8, alpha=8.0, dropout=0.5), "site")
    with torch.no_grad():
        adapter.a.copy_(torch.eye(8))
        adapter.b.copy_(torch.eye(8))
    x = torch.ones(2, 3, 8)
    told = _inputs(some_tokens(), DropoutSeed(seed=1, step=2, samples=torch.tensor([5, 6])))

    dropped = adapter(x, told)

    assert set(dropped.unique().tolist()) == {0.0, 2.0}
    assert torch.equal(adapter(x, told), dropped)
    assert torch.equal(adapter.eval()(x, None), x)
