"""The process group: its ranks, and the device on which each computes.

torchrun, our agent and a plain `python -m` start the same program. The first
two set environment variables that locate the other ranks; without those the
world is this process, and no socket is opened.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch._C import _distributed_c10d as c10d  # where the stores of torch.distributed have their types

from footplate_contracts.names import Backend, Env
from footplate_trainer.errors import UserMistake
from footplate_trainer.parallel.device import retain_freed_memory

# Our agent's store listens before any rank starts: a rank that does not reach it within
# seconds never will. Under torchrun rank 0 hosts it, after importing torch.
AGENT_STORE_TIMEOUT = timedelta(seconds=15)
RANK_STORE_TIMEOUT = timedelta(minutes=5)
COLLECTIVE_TIMEOUT = timedelta(minutes=30)
LONG_WAIT_TIMEOUT = timedelta(days=7)


@dataclass(frozen=True)
class StoreAddress:
    """Address of the group's key-value store."""

    host: str
    port: int
    hosted_by_agent: bool
    prefix: str  # a restarted group must not read the keys of the one before


@dataclass(frozen=True)
class RankEnvironment:
    """A rank's numbers in the world; `store` is None when the rank is alone."""

    rank: int
    world_size: int
    local_rank: int
    store: StoreAddress | None


def read_environment(environment: Mapping[str, str]) -> RankEnvironment:
    """Read the rank's numbers that torchrun or an agent wrote into `environment`.

    Raises UserMistake if some of the variables are missing or invalid, as another launcher's leftovers may
    be.
    """
    if "RANK" not in environment:
        return RankEnvironment(rank=0, world_size=1, local_rank=0, store=None)
    numbers = [
        name for name in ("RANK", "WORLD_SIZE", "MASTER_PORT") if not environment.get(name, "").isdecimal()
    ]
    wrong = numbers if environment.get("MASTER_ADDR") else [*numbers, "MASTER_ADDR"]
    if wrong:
        raise UserMistake(
            f"the environment has RANK {environment['RANK']}, but no valid {', '.join(wrong)}; start under "
            "torchrun, or unset RANK to train alone"
        )
    by_agent = environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    # Each agent of torchrun counts its own restarts: only a store that outlives them needs the count, as
    # agents that came at different times would never meet under it.
    restarts = environment.get("TORCHELASTIC_RESTART_COUNT", "0") if by_agent else "0"
    generation = environment.get(Env.GENERATION) or restarts
    return RankEnvironment(
        rank=int(environment["RANK"]),
        world_size=int(environment["WORLD_SIZE"]),
        local_rank=int(environment.get("LOCAL_RANK", "0")),
        store=StoreAddress(
            host=environment["MASTER_ADDR"],
            port=int(environment["MASTER_PORT"]),
            hosted_by_agent=by_agent,
            prefix=f"ranks/{generation}",
        ),
    )


@dataclass(frozen=True)
class DistributedContext:
    """A running process group as this rank sees it."""

    rank: int
    size: int
    local_rank: int
    device: torch.device
    everybody: dist.ProcessGroup  # the default group, for the training loop alone
    background: dist.ProcessGroup  # gloo, for the thread that writes checkpoints


@contextmanager
def init_distributed(place: RankEnvironment, backend: Backend) -> Iterator[DistributedContext]:
    """Join the group of `place`; leave it together with all ranks at the end, or exit at once on an error.

    After an error the peers may be gone or in the middle of a collective:
    an orderly shutdown could wait for them for ever.
    """
    device = _device(place, backend)
    retain_freed_memory(device)
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if backend is Backend.NCCL else "cpu:gloo",
        store=_store(place),
        rank=place.rank,
        world_size=place.world_size,
        timeout=COLLECTIVE_TIMEOUT,
        device_id=device if backend is Backend.NCCL else None,
    )
    everybody, background = dist.group.WORLD, dist.new_group(backend="gloo")
    assert isinstance(background, dist.ProcessGroup), "every rank is a member of this group"
    assert everybody is not None, "it was made above"
    yield DistributedContext(place.rank, place.world_size, place.local_rank, device, everybody, background)
    dist.barrier(group=background)  # nobody closes a connection that another still reads from
    dist.destroy_process_group()


def new_long_timeout_group() -> dist.ProcessGroup:
    """Create a group of all ranks whose timeout is `LONG_WAIT_TIMEOUT` instead of a collective's.

    Ranks use it to wait for slower ones. Meanwhile the coordinator detects a rank that hangs, and agents a
    rank that has exited. Collective, in the training loop alone.
    """
    group = dist.new_group(backend="gloo", timeout=LONG_WAIT_TIMEOUT)
    assert isinstance(group, dist.ProcessGroup), "every rank is a member of this group"
    return group


def use_determinism(deterministic: bool) -> None:
    """Make torch use deterministic algorithms where it has a choice, and raise an error where it has none."""
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(deterministic)


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seed torch's generators for one step of one rank.

    Our own code draws nothing from them, but a user's loss may: seeded so, a draw depends on the
    step and not on the run's history, and a checkpoint needs no generator state.
    """
    digest = hashlib.sha256(f"{seed}/{step}/{rank}".encode()).digest()
    torch.manual_seed(int.from_bytes(digest[:8], "little"))


def device_name(device: torch.device) -> str:
    """Return type and model, as far as kernels differ between them."""
    if device.type == "cpu":
        return f"cpu {torch.backends.cpu.get_cpu_capability()}"
    return f"{device.type} {torch.cuda.get_device_name(device)}"


def _store(place: RankEnvironment) -> c10d.Store:
    address = place.store
    if address is None:
        return c10d.HashStore()
    store = c10d.TCPStore(
        address.host,
        address.port,
        is_master=place.rank == 0 and not address.hosted_by_agent,
        timeout=AGENT_STORE_TIMEOUT if address.hosted_by_agent else RANK_STORE_TIMEOUT,
        wait_for_workers=False,
    )
    return c10d.PrefixStore(address.prefix, store)


def _device(place: RankEnvironment, backend: Backend) -> torch.device:
    if backend is Backend.GLOO:
        return torch.device("cpu")
    device = torch.device("cuda", place.local_rank)
    torch.cuda.set_device(device)
    return device
