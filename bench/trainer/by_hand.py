"""A Llama over data x tensor x pipeline as one writes it by hand with torch's own parts.

What `bench/trainer/three_dimensions.py` compares the trainer with: the recipe
of torch's tutorials and of torchtitan, for exactly one model and one layout.
Parameters have the trainer's names, so that both can start from equal weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.pipelining import PipelineStage, Schedule1F1B
from torch.distributed.tensor import DTensor, Replicate, Shard
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    PrepareModuleInput,
    RowwiseParallel,
    SequenceParallel,
    loss_parallel,
    parallelize_module,
)
from torch.nn import functional
from torch.nn.utils import clip_grads_with_norm_, get_total_norm


@dataclass(frozen=True)
class Sizes:
    """Of the model, of a step, and of the layout: data x tensor x pipeline, two of each."""

    layers: int = 8
    hidden: int = 256
    feed_forward: int = 688
    heads: int = 8
    key_value_heads: int = 4
    vocabulary: int = 4096
    length: int = 256
    micro_batch: int = 2
    micro_batches: int = 4  # of each data rank
    data: int = 2
    tensor: int = 2
    pipeline: int = 2

    @property
    def ranks(self) -> int:
        """All of them."""
        return self.data * self.tensor * self.pipeline

    @property
    def head_size(self) -> int:
        """Columns of a head."""
        return self.hidden // self.heads


class Attention(nn.Module):
    """Grouped-query attention; a rank has some of the heads."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.head_size = sizes.head_size
        key_value = sizes.key_value_heads * sizes.head_size
        self.query = nn.Linear(sizes.hidden, sizes.hidden, bias=False)
        self.key = nn.Linear(sizes.hidden, key_value, bias=False)
        self.value = nn.Linear(sizes.hidden, key_value, bias=False)
        self.output = nn.Linear(sizes.hidden, sizes.hidden, bias=False)

    def forward(self, x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        """[batch, length, hidden] -> the same."""
        batch, length, _ = x.shape
        heads = (batch, length, -1, self.head_size)
        query, key, value = (
            linear(x).view(heads).transpose(1, 2) for linear in (self.query, self.key, self.value)
        )
        query, key = rotate(query, cosine, sine), rotate(key, cosine, sine)
        attended = functional.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
        merged: Tensor = self.output(attended.transpose(1, 2).reshape(batch, length, -1))
        return merged


def rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotary position embedding as in Llama."""
    first, second = x.chunk(2, dim=-1)
    return x * cosine + torch.cat((-second, first), dim=-1) * sine


class FeedForward(nn.Module):
    """SwiGLU."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.gate = nn.Linear(sizes.hidden, sizes.feed_forward, bias=False)
        self.up = nn.Linear(sizes.hidden, sizes.feed_forward, bias=False)
        self.down = nn.Linear(sizes.feed_forward, sizes.hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, length, hidden] -> the same."""
        down: Tensor = self.down(functional.silu(self.gate(x)) * self.up(x))
        return down


class Block(nn.Module):
    """One layer."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(sizes.hidden, eps=1e-5)
        self.attention = Attention(sizes)
        self.feed_forward_norm = nn.RMSNorm(sizes.hidden, eps=1e-5)
        self.feed_forward = FeedForward(sizes)

    def forward(self, x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        """[batch, length / tensor, hidden] -> the same."""
        x = x + self.attention(self.attention_norm(x), cosine, sine)
        forwarded: Tensor = self.feed_forward(self.feed_forward_norm(x))
        return x + forwarded


class Stage(nn.Module):
    """A stage of the pipeline: embedding, blocks, norm and head, as far as they are its own."""

    def __init__(self, sizes: Sizes, number: int) -> None:
        super().__init__()
        each = sizes.layers // sizes.pipeline
        is_last = number == sizes.pipeline - 1
        self.embedding = nn.Embedding(sizes.vocabulary, sizes.hidden) if number == 0 else None
        self.blocks = nn.ModuleDict(
            {str(layer): Block(sizes) for layer in range(number * each, (number + 1) * each)}
        )
        self.norm = nn.RMSNorm(sizes.hidden, eps=1e-5) if is_last else None
        self.head = nn.Linear(sizes.hidden, sizes.vocabulary, bias=False) if is_last else None
        self.sizes = sizes
        self.cosine, self.sine = torch.empty(0), torch.empty(0)

    def make_tables(self) -> None:
        """Rotary tables, once there is memory."""
        columns = torch.arange(0, self.sizes.head_size, 2, dtype=torch.float64) / self.sizes.head_size
        angles = torch.outer(torch.arange(self.sizes.length, dtype=torch.float64), 10_000.0**-columns)
        angles = torch.cat((angles, angles), dim=-1)
        self.cosine, self.sine = angles.cos().float(), angles.sin().float()

    def forward(self, x: Tensor) -> Tensor:
        """Tokens or hidden states -> hidden states or logits."""
        x = x if self.embedding is None else self.embedding(x)
        for block in self.blocks.values():
            x = block(x, self.cosine, self.sine)
        return x if self.norm is None or self.head is None else self.head(self.norm(x))


def parallelize(stage: Stage, mesh: DeviceMesh) -> None:
    """Tensor parallelism with sequence parallelism, then FSDP2 on each block and on the rest."""
    outside = {
        "embedding": RowwiseParallel(input_layouts=Replicate(), output_layouts=Shard(1)),
        "norm": SequenceParallel(),
        "head": ColwiseParallel(input_layouts=Shard(1), output_layouts=Shard(-1), use_local_output=False),
    }
    here = {name: plan for name, plan in outside.items() if getattr(stage, name) is not None}
    parallelize_module(stage, mesh["tensor"], here)
    for block in stage.blocks.values():
        parallelize_module(
            block,
            mesh["tensor"],
            {
                "attention_norm": SequenceParallel(),
                "attention": PrepareModuleInput(
                    input_layouts=(Shard(1), None, None), desired_input_layouts=(Replicate(), None, None)
                ),
                "attention.query": ColwiseParallel(),
                "attention.key": ColwiseParallel(),
                "attention.value": ColwiseParallel(),
                "attention.output": RowwiseParallel(output_layouts=Shard(1)),
                "feed_forward_norm": SequenceParallel(),
                "feed_forward": PrepareModuleInput(
                    input_layouts=(Shard(1),), desired_input_layouts=(Replicate(),)
                ),
                "feed_forward.gate": ColwiseParallel(),
                "feed_forward.up": ColwiseParallel(),
                "feed_forward.down": RowwiseParallel(output_layouts=Shard(1)),
            },
        )
        fully_shard(block, mesh=mesh["data"], reshard_after_forward=False)
    fully_shard(stage, mesh=mesh["data"], reshard_after_forward=False)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean over all tokens of a micro-batch; none is ignored."""
    return functional.cross_entropy(logits.flatten(0, 1), labels.flatten())


class ByHand:
    """Model, optimizer and schedule of this rank, moved by a step at a time."""

    def __init__(self, sizes: Sizes, learning_rate: float, decay: float, clip_norm: float) -> None:
        names = ("pipeline", "data", "tensor")
        self.mesh = init_device_mesh("cpu", (sizes.pipeline, sizes.data, sizes.tensor), mesh_dim_names=names)
        self.number = self.mesh.get_local_rank("pipeline")
        self._is_last = self.number == sizes.pipeline - 1
        self._pipeline = self.mesh.get_group("pipeline")
        self._clip_norm = clip_norm
        with torch.device("meta"):
            self.stage = Stage(sizes, self.number)
        parallelize(self.stage, self.mesh)
        self.stage.to_empty(device="cpu")
        self.stage.make_tables()
        matrices = [weight for weight in self.stage.parameters() if weight.ndim > 1]
        vectors = [weight for weight in self.stage.parameters() if weight.ndim == 1]
        groups: list[dict[str, Any]] = [
            {"params": matrices, "weight_decay": decay},
            {"params": vectors, "weight_decay": 0.0},
        ]
        self._optimizer = torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.95), fused=True)
        stage = PipelineStage(
            self.stage, self.number, sizes.pipeline, torch.device("cpu"), group=self._pipeline
        )
        self._schedule = Schedule1F1B(stage, sizes.micro_batches, loss_fn=cross_entropy)

    def step(self, tokens: Tensor, labels: Tensor) -> float:
        """One update; the loss of this data rank's samples on the last stage, 0 elsewhere."""
        losses: list[Tensor] = []
        with loss_parallel():
            if self.number == 0:
                self._schedule.step(tokens)
            else:
                self._schedule.step(target=labels, losses=losses)
        parameters = list(self.stage.parameters())
        norm = get_total_norm([weight.grad for weight in parameters if weight.grad is not None], foreach=True)
        squared = (norm.full_tensor() if isinstance(norm, DTensor) else norm).square()
        dist.all_reduce(squared, group=self._pipeline)
        clip_grads_with_norm_(parameters, self._clip_norm, squared.sqrt(), foreach=True)
        self._optimizer.step()
        self._optimizer.zero_grad()
        return sum(_number(loss) for loss in losses) / max(1, len(losses))


def _number(loss: Tensor) -> float:
    whole = loss.full_tensor() if isinstance(loss, DTensor) else loss
    return float(whole.detach())
