"""`footplate-trainer train RUN.yaml`: the same run without a cluster, alone or under torchrun."""

from __future__ import annotations

import argparse
import gc
import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from footplate_contracts.names import Backend, Env, ExitCode
from footplate_contracts.runconfig import World
from footplate_trainer.checkpoint.lock import lock_folder
from footplate_trainer.data.check import check_run, data_sources
from footplate_trainer.huggingface.initial import initial_model
from footplate_trainer.manifest.run_file import RunFile, read_run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `train`."""
    parser.add_argument("run", type=Path, metavar="RUN.yaml", help="a TrainingRun, YAML or JSON")
    parser.add_argument("--metrics", type=Path, metavar="FILE", help="write one JSON row per step")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="PATH=VALUE",
        help="override a field of spec, e.g. training.steps=10; repeatable",
    )


def run(arguments: argparse.Namespace) -> ExitCode:
    """Train; a refused manifest, or missing data or a missing model, is reported before importing torch."""
    run_file = read_run(arguments.run, arguments.set)
    data = run_file.spec.data
    check_run([uri for _, uri, _ in data_sources(data)], data.tokenizer.uri if data.tokenizer else None)
    if run_file.spec.init_from is not None:
        initial_model(run_file.spec.init_from, run_file.spec.stage)

    with _alone_in(run_file.spec.checkpoint.uri):
        return _train(run_file, arguments.metrics)


def _train(run_file: RunFile, metrics: Path | None) -> ExitCode:
    gc.disable()  # imports allocate much and free nothing: collections would cost a fifth of the time
    import torch

    from footplate_elastic.protocol.agent_client import open_client
    from footplate_trainer.loop.training_loop import unfreeze_gc
    from footplate_trainer.parallel.world import read_environment
    from footplate_trainer.stages import programs

    gc.enable()
    ranks = read_environment(os.environ).world_size
    local_ranks = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if ranks > 1 else 1
    enough = torch.cuda.device_count() >= local_ranks
    world = World(
        nodes=max(1, ranks // local_ranks),
        processes_per_node=local_ranks,
        backend=Backend.NCCL if enough else Backend.GLOO,
    )
    agent = open_client(os.environ)
    try:
        code = programs.train(run_file.config(world), agent, metrics)
    finally:
        unfreeze_gc()  # whoever calls this from a program of its own may train another run
    agent.close()
    return code


def _alone_in(uri: str) -> AbstractContextManager[None]:
    """Lock the checkpoint folder; under an agent generations exclude others, and of many ranks one locks."""
    if Env.RANK_LINK in os.environ or os.environ.get("RANK", "0") != "0":
        return nullcontext()
    return lock_folder(uri)
