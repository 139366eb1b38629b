"""Each optimizer on shards is torch's on whole tensors.

All in ranks, though one may be enough: torch's optimizers import its compiler
at the first step, which the fork server has done already.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from footplate_contracts.names import Backend
from footplate_contracts.runconfig import resolve_optimizer
from footplate_contracts.v1alpha1.training import Optimizer, OptimizerName
from footplate_trainer.optim.optimizer import build_optimizer
from footplate_trainer.parallel.world import init_distributed, read_environment
from tests.support.ranks import run_ranks

STEPS = 20
OPTIMIZERS = (
    Optimizer(name=OptimizerName.SGD, learning_rate=0.1, momentum=0.9, nesterov=True, weight_decay=0.05),
    Optimizer(name=OptimizerName.ADAM, learning_rate=0.02, betas=[0.8, 0.9], weight_decay=0.05),
    Optimizer(learning_rate=0.02, betas=[0.8, 0.9], epsilon=1e-6, weight_decay=0.3),
    Optimizer(name=OptimizerName.ADAFACTOR, learning_rate=0.1, weight_decay=0.05),
)


def torch_optimizer(network: Network, settings: Optimizer) -> torch.optim.Optimizer:
    """torch's own, with decay on matrices only."""
    groups = [
        {"params": [network.up, network.down], "weight_decay": settings.weight_decay},
        {"params": [network.norm], "weight_decay": 0.0},
    ]
    match settings.name:
        case OptimizerName.SGD:
            return torch.optim.SGD(groups, momentum=0.9, nesterov=True)
        case OptimizerName.ADAM:
            return torch.optim.Adam(groups, betas=(0.8, 0.9))
        case OptimizerName.ADAMW:
            return torch.optim.AdamW(groups, betas=(0.8, 0.9), eps=1e-6)
        case OptimizerName.ADAFACTOR:
            return torch.optim.Adafactor(groups)


class Network(nn.Module):
    """Matrices that are not square, one cut by rows and one by columns where there are tensor ranks."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.up = nn.Parameter(torch.randn(10, 7, generator=generator))
        self.down = nn.Parameter(torch.randn(5, 12, generator=generator))
        self.norm = nn.Parameter(torch.randn(11, generator=generator))


def gradient(step: int, index: int, parameter: Tensor) -> Tensor:
    """The whole gradient of a parameter, the same for everyone."""
    generator = torch.Generator().manual_seed(100 * step + index)
    return torch.randn(parameter.shape, generator=generator) * 0.1**index


def laid_out(degrees: Sequence[int]) -> Network:
    """The network over (replicate, shard, tensor) ranks; an axis of one rank is left out."""
    names = ("replicate", "shard", "tensor")
    axes = [(name, degree) for name, degree in zip(names, degrees, strict=True) if degree > 1]
    network = Network()
    if not axes:
        return network
    mesh = init_device_mesh(
        "cpu", tuple(degree for _, degree in axes), mesh_dim_names=tuple(name for name, _ in axes)
    )
    if degrees[2] > 1:
        for name, dimension in (("up", 0), ("down", 1)):
            whole = getattr(network, name).detach()
            cut = distribute_tensor(whole, mesh["tensor"], [Shard(dimension)])
            setattr(network, name, nn.Parameter(cut))
    data = tuple(name for name, _ in axes if name != "tensor")
    if data:
        fully_shard(network, mesh=mesh[data])
    return network


def part_of(whole: Tensor, parameter: Tensor) -> Tensor:
    """The block of `whole` that this rank holds, as tensor parallelism and then FSDP cut it."""
    if not isinstance(parameter, DTensor):
        return whole
    mesh = parameter.device_mesh
    for axis in reversed(range(mesh.ndim)):
        dimension = getattr(parameter.placements[axis], "dim", None)
        if dimension is not None:
            whole = whole.chunk(mesh.size(axis), dimension)[mesh.get_local_rank(axis)]
    return whole


def whole_of(parameter: Tensor) -> Tensor:
    return parameter.full_tensor() if isinstance(parameter, DTensor) else parameter


def error_after_steps(settings: Optimizer, degrees: Sequence[int]) -> float:
    """The largest difference from torch's optimizer, relative to the largest weight."""
    reference, network = Network(), laid_out(degrees)
    expected = torch_optimizer(reference, settings)
    optimizer = build_optimizer(network, resolve_optimizer(settings))
    parameters = list(network.parameters())
    for step in range(STEPS):
        rate = settings.learning_rate * (1 - step / STEPS)
        whole = [gradient(step, index, parameter) for index, parameter in enumerate(reference.parameters())]
        optimizer.step([part_of(*pair).clone() for pair in zip(whole, parameters, strict=True)], rate)
        for parameter, computed in zip(reference.parameters(), whole, strict=True):
            parameter.grad = computed
        for group in expected.param_groups:
            group["lr"] = rate
        expected.step()
    pairs = zip(map(whole_of, parameters), reference.parameters(), strict=True)
    return max(((ours - other).abs().max() / other.abs().max()).item() for ours, other in pairs)


def errors(degrees: Sequence[int]) -> dict[str, float]:
    with init_distributed(read_environment(os.environ), Backend.GLOO):
        return {str(settings.name): error_after_steps(settings, degrees) for settings in OPTIMIZERS}


@pytest.mark.parametrize(
    "degrees",
    [
        pytest.param((1, 1, 1), id="one-rank"),
        pytest.param((1, 3, 1), id="fsdp-uneven"),
        pytest.param((1, 1, 2), id="tensor"),
        pytest.param((1, 2, 2), id="fsdp-and-tensor"),
        pytest.param((2, 2, 2), id="hybrid-and-tensor"),
    ],
)
def test_sharded_equals_whole(degrees: tuple[int, int, int]) -> None:
    for found in run_ranks(errors, math.prod(degrees), degrees):
        assert found == {name: pytest.approx(0, abs=1e-5) for name in ("sgd", "adam", "adamw", "adafactor")}


def restored_goes_on(settings: Optimizer) -> None:
    """Moments that are copied into another optimizer continue where they were."""
    ours, other = Network(), Network()
    first, second = (build_optimizer(network, resolve_optimizer(settings)) for network in (ours, other))
    first.step([gradient(0, index, parameter) for index, parameter in enumerate(ours.parameters())], 0.1)
    with torch.no_grad():
        for source, target in zip(ours.parameters(), other.parameters(), strict=True):
            target.copy_(source)
        for moment, named in second.moments().items():
            for name, target in named.items():
                target.copy_(first.moments()[moment][name])
    second.set_update_count(1)
    for optimizer, network in ((first, ours), (second, other)):
        optimizer.step(
            [gradient(1, index, parameter) for index, parameter in enumerate(network.parameters())], 0.1
        )

    assert all(torch.equal(*pair) for pair in zip(ours.parameters(), other.parameters(), strict=True))


def all_restored_go_on() -> None:
    for settings in OPTIMIZERS:
        restored_goes_on(settings)


def test_restored_moments_go_on_where_they_were() -> None:
    run_ranks(all_restored_go_on, 1)
