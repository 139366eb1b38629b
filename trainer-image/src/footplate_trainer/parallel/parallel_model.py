"""Builds a model from its shape: laid out over the ranks and initialised, in a fixed order.

The network is built without memory, cut by tensor and by pipeline, wrapped,
given memory for this rank's part only, and then filled: no rank ever holds the
whole of a large model. The order is tensor, pipeline, recomputation, compile,
data (docs/decisions/ADR-0005).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.utils.checkpoint import checkpoint, create_selective_checkpoint_contexts

from footplate_contracts.runconfig import RunConfig
from footplate_contracts.v1alpha1.training import ActivationCheckpointing, Precision
from footplate_planning.config import model_shape
from footplate_planning.topology import Topology, stage_layers
from footplate_trainer.errors import UserMistake
from footplate_trainer.model.dropout import HashDropout
from footplate_trainer.model.initialize import initialize_rows
from footplate_trainer.model.linear import make_output_require_grad
from footplate_trainer.model.network import TransformerNetwork
from footplate_trainer.model.network_factory import build_network
from footplate_trainer.parallel import device
from footplate_trainer.parallel.batch_invariance import apply_batch_invariance
from footplate_trainer.parallel.context_parallel import apply_context_parallel
from footplate_trainer.parallel.data_parallel import GradientAccumulation, apply_fsdp
from footplate_trainer.parallel.local_shard import local_shard
from footplate_trainer.parallel.mesh import Grid, make_mesh, open_grid
from footplate_trainer.parallel.stage_module import Criterion, MicroBatchInputs, StageModule, StageModules
from footplate_trainer.parallel.tensor_parallel import apply_tensor_parallel
from footplate_trainer.parallel.world import DistributedContext

# What selective recomputation keeps: products of matrices and attention, which take the time.
_KEPT = [
    torch.ops.aten.mm.default,
    torch.ops.aten.addmm.default,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default,
    torch.ops.aten._scaled_dot_product_flash_attention.default,
    torch.ops.aten._scaled_dot_product_efficient_attention.default,
    torch.ops.aten._scaled_dot_product_cudnn_attention.default,
]


class ForwardBackwardSchedule(Protocol):
    """Forward and backward passes of a step, in any schedule."""

    def accumulate(
        self, micro_batches: Sequence[MicroBatchInputs], criterion: Criterion, divisor: Callable[[], Tensor]
    ) -> Tensor:
        """Compute gradients of summed losses / `divisor()`; return this rank's part of the loss, fp64.

        The call of `divisor` may wait.
        """

    def evaluate(self, micro_batches: Sequence[MicroBatchInputs], criterion: Criterion) -> Tensor:
        """Return this rank's part of the sum of losses, fp64, without gradients."""


@dataclass(frozen=True)
class ParallelModel:
    """A model over the ranks; `host_mesh` has all ranks on CPUs, for copies in host memory."""

    module: StageModules
    grid: Grid
    passes: ForwardBackwardSchedule
    host_mesh: DeviceMesh
    invariant: bool = False  # what it computes of a row does not depend on the rows beside it


def build_model(
    config: RunConfig, world: DistributedContext, *, batch_invariant: bool = False
) -> ParallelModel:
    """Build the network of `config` over `world`, with its initial weights. Collective.

    Raises NoInvariantTiles if `batch_invariant` is set and this machine cannot compute so.
    """
    topology = Topology.of(world.size, config.parallelism)
    grid = open_grid(topology, world.rank, world.device.type)
    on_cpu = world.device.type == "cpu"
    host_mesh = grid.mesh if on_cpu else make_mesh(topology, "cpu")
    return _laid_out(config, world, grid, host_mesh, trained=True, invariant=batch_invariant)


def build_frozen(
    config: RunConfig, world: DistributedContext, beside: ParallelModel, *, batch_invariant: bool = False
) -> ParallelModel:
    """Build the network of `config` with its initial weights, in the layout of `beside`, never to be trained.

    Raises as `build_model`.
    """
    frozen = _laid_out(config, world, beside.grid, beside.host_mesh, trained=False, invariant=batch_invariant)
    frozen.module.eval()
    return frozen


def build_colocated(config: RunConfig, world: DistributedContext, beside: ParallelModel) -> ParallelModel:
    """Build the network of `config` in the layout of `beside`, untrained, to be trained with it."""
    return _laid_out(config, world, beside.grid, beside.host_mesh, trained=True, invariant=False)


def _laid_out(
    config: RunConfig,
    world: DistributedContext,
    grid: Grid,
    host_mesh: DeviceMesh,
    *,
    trained: bool,
    invariant: bool,
) -> ParallelModel:
    topology = grid.topology
    layers = stage_layers(model_shape(config), topology)
    module = StageModules(
        _stage(
            config, grid, number, layers[number], trained=trained, invariant_over=world if invariant else None
        )
        for number in topology.stages_of(grid.coordinates.pipeline)
    )
    module.to_empty(device=device.shard_device(config.parallelism.offload, world.device))
    for stage in module.stages:
        stage.network.reset_tables(world.device)
    initialize(module, config.training.seed, config.model.initialization.standard_deviation)
    passes: ForwardBackwardSchedule
    if topology.pipeline > 1:
        # Here and not above: torch's schedules take 0.4 s to import, which every start would pay.
        from footplate_trainer.parallel.pipeline_parallel import Pipeline

        passes = Pipeline(module, grid, world.device, _computed_in(config))
    else:
        passes = GradientAccumulation(module.stages[0], grid, world.device)
    return ParallelModel(module, grid, passes, host_mesh, invariant)


def _computed_in(config: RunConfig) -> torch.dtype:
    return torch.bfloat16 if config.training.precision is Precision.BF16 else torch.float32


def _stage(
    config: RunConfig,
    grid: Grid,
    number: int,
    layers: range,
    *,
    trained: bool,
    invariant_over: DistributedContext | None,
) -> StageModule:
    """Build stage `number`, without memory; batch invariant over `invariant_over`, if that is not None."""
    with torch.device("meta"):
        network = build_network(model_shape(config))
    if not trained:
        network.requires_grad_(False)
    if grid.context_group is not None:
        apply_context_parallel(network, grid.context_group)
    if grid.tensor_mesh is not None:
        apply_tensor_parallel(network, grid.tensor_mesh)
    network.prune_to_stage(layers, first=number == 0, last=number == grid.topology.stages - 1)
    if invariant_over is not None:
        apply_batch_invariance(network, _computed_in(config), invariant_over)
    if config.model.adapter is not None and network.is_first and network.embedding is not None:
        network.embedding.register_forward_hook(make_output_require_grad)
    apply_activation_checkpointing(network, config.training.activation_checkpointing)
    if config.training.compile:
        compile_blocks(network)
    stage = StageModule(network, grid.tensor_group)
    offload = device.offload_policy(config.parallelism.offload, grid.mesh.device_type)
    apply_fsdp(stage, grid, config.training.precision, offload)
    return stage


def initialize(module: StageModules, seed: int, standard_deviation: float) -> None:
    """Fill this rank's block of each parameter; a number's value depends only on its position."""
    for name, parameter in module.named_parameters():
        shard = local_shard(parameter)
        if shard.local.ndim == 1 or shard.local.shape[1] == parameter.shape[1]:
            initialize_rows(shard.local, name, shard.start[0], seed, standard_deviation)
            continue
        rows = torch.empty(shard.local.shape[0], parameter.shape[1])
        initialize_rows(rows, name, shard.start[0], seed, standard_deviation)
        shard.local.copy_(rows.narrow(1, shard.start[1], shard.local.shape[1]))
    module.sync_tied()


def apply_activation_checkpointing(network: TransformerNetwork, which: ActivationCheckpointing) -> None:
    """Make each block's backward pass recompute all its activations, or only the cheap ones.

    Like compilation it wraps `forward` alone: the hooks around it, and parameter names, stay.
    """
    if which is ActivationCheckpointing.NONE:
        return
    keep = partial(create_selective_checkpoint_contexts, _KEPT)
    chosen = {"context_fn": keep} if which is ActivationCheckpointing.SELECTIVE else {}
    for block in network.blocks.values():
        block.forward = partial(checkpoint, block.forward, use_reentrant=False, **chosen)


def compile_blocks(network: TransformerNetwork) -> None:
    """Compile each block; raise UserMistake if a CPU has no C++ compiler."""
    if not torch.cuda.is_available() and not (shutil.which("g++") or shutil.which("clang++")):
        raise UserMistake("training.compile needs a C++ compiler on this machine; install g++ or remove it")
    for block in network.blocks.values():
        for module in block.modules():
            # The compiler's own integers do not wrap around where a hash of 64 bits does.
            if isinstance(module, HashDropout) and module.is_active:
                module.draw = torch.compiler.disable(module.draw)  # type: ignore[no-untyped-call]  # torch's
        block.forward = torch.compile(block.forward)
