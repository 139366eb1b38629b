"""What is asked of one type of device and not of another."""

from __future__ import annotations

import pytest
import torch
from torch.distributed.fsdp import CPUOffloadPolicy, OffloadPolicy

from footplate_contracts.v1alpha1.parallelism import Offload
from footplate_trainer.parallel.device import offload_policy, shard_device


@pytest.mark.parametrize(
    ("offload", "device", "policy", "home"),
    [
        pytest.param(Offload.NONE, "cuda", OffloadPolicy(), "cuda", id="none"),
        pytest.param(Offload.CPU, "cuda", CPUOffloadPolicy(pin_memory=True), "cpu", id="gpu"),
        pytest.param(Offload.CPU, "cpu", CPUOffloadPolicy(pin_memory=False), "cpu", id="nothing-to-copy-to"),
    ],
)
def test_shards_are_where_the_run_wants_them(
    offload: Offload, device: str, policy: OffloadPolicy, home: str
) -> None:
    assert offload_policy(offload, device) == policy
    assert shard_device(offload, torch.device(device)) == torch.device(home)
