"""Transformations of each block: activation checkpointing to save memory, compilation to save time.

Both wrap `forward` alone. The hooks around it (tensor parallelism's gathering,
FSDP's) stay outside, and parameter names do not change.
"""

from __future__ import annotations

import shutil
from functools import partial

import torch
from torch.utils.checkpoint import checkpoint, create_selective_checkpoint_contexts

from footplate_contracts.v1alpha1.training import ActivationCheckpointing
from footplate_trainer.errors import UserMistake
from footplate_trainer.model.dropout import HashDropout
from footplate_trainer.model.network import TransformerNetwork

# What selective recomputation keeps: products of matrices and attention, which take the time.
_KEPT = [
    torch.ops.aten.mm.default,
    torch.ops.aten.addmm.default,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default,
    torch.ops.aten._scaled_dot_product_flash_attention.default,
    torch.ops.aten._scaled_dot_product_efficient_attention.default,
    torch.ops.aten._scaled_dot_product_cudnn_attention.default,
]


def apply_activation_checkpointing(network: TransformerNetwork, which: ActivationCheckpointing) -> None:
    """Make each block's backward pass recompute all its activations, or only the cheap ones."""
    if which is ActivationCheckpointing.NONE:
        return
    keep = partial(create_selective_checkpoint_contexts, _KEPT)
    chosen = {"context_fn": keep} if which is ActivationCheckpointing.SELECTIVE else {}
    for block in network.blocks.values():
        block.forward = partial(checkpoint, block.forward, use_reentrant=False, **chosen)


def compile_blocks(network: TransformerNetwork) -> None:
    """Compile each block; raise UserMistake if a CPU has no C++ compiler."""
    if not torch.cuda.is_available() and not (shutil.which("g++") or shutil.which("clang++")):
        raise UserMistake(
            "training.compile needs a C++ compiler on this machine; install g++ or leave it out"
        )
    for block in network.blocks.values():
        for module in block.modules():
            # The compiler's own integers do not wrap around where a hash of 64 bits does.
            if isinstance(module, HashDropout) and module.is_active:
                module.draw = torch.compiler.disable(module.draw)  # type: ignore[no-untyped-call]  # torch's
        block.forward = torch.compile(block.forward)
