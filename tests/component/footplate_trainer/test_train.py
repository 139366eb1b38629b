"""`footplate-trainer train` and `generate` as real processes, and what ranks tell their agent."""

from __future__ import annotations

import contextlib
import gc
import io
import json
import math
import os
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.modules.module import register_module_forward_hook

from footplate_contracts.names import Env, ExitCode
from footplate_contracts.reports import RankPhase
from footplate_contracts.runconfig import RunConfig
from footplate_contracts.v1alpha1.training import Loss
from footplate_trainer.__main__ import main
from footplate_trainer.checkpoint.lock import lock_folder
from footplate_trainer.errors import NumericalDivergence
from footplate_trainer.loop.stepper import StepFlags, Stepper
from footplate_trainer.optim.optimizer import build_optimizer
from footplate_trainer.parallel.local_shard import local_shard
from footplate_trainer.parallel.parallel_model import build_model
from footplate_trainer.parallel.world import init_distributed, read_environment
from footplate_trainer.stages.inputs import open_loader, open_shards
from footplate_trainer.stages.losses import cross_entropy
from footplate_trainer.stages.programs import run_rank
from tests.support.ranks import run_ranks, start_ranks
from tests.support.tiny import VOCABULARY, read_rows, tiny_config, tiny_manifest
from tests.support.training import Ended, FakeAgent, train, train_under


def share_of_parts(row: dict[str, Any]) -> float:
    """Of a step's seconds, those that were spent on one of its parts."""
    parts = [row[f"{part}Seconds"] for part in ("data", "compute", "communication", "optimizer")]
    return float(sum(parts) / row["stepSeconds"])


def write_manifest(shards: Path, folder: Path) -> str:
    path = folder / "run.json"
    path.write_text(json.dumps(tiny_manifest(shards, folder / "checkpoints")))
    return str(path)


def footplate_trainer(*arguments: str) -> tuple[int, str, str]:
    """The command line in a process without torchrun: exit code, stdout, stderr."""
    del os.environ["RANK"]
    stdout, stderr = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        code = main(arguments)
    return code, stdout.getvalue(), stderr.getvalue()


def models_that_stay(*arguments: str) -> tuple[int, int]:
    """How many modules computed something while a command ran in this process, and how many still live."""
    seen: weakref.WeakSet[torch.nn.Module] = weakref.WeakSet()
    count = 0

    def noted(module: torch.nn.Module, *_: object) -> None:
        nonlocal count
        count += module not in seen
        seen.add(module)

    with register_module_forward_hook(noted):
        code, _, stderr = footplate_trainer(*arguments)
    assert code == ExitCode.SUCCESS, stderr
    gc.collect()
    return count, len(seen)


def test_a_process_that_goes_on_keeps_no_model_of_a_run_that_ended(shards: Path, tmp_path: Path) -> None:
    steps = ("--set", "training.steps=4")
    [(computed, stay)] = run_ranks(models_that_stay, 1, "train", write_manifest(shards, tmp_path), *steps)
    assert computed > 0 and stay == 0


def test_torchrun_trains_and_a_single_process_goes_on_and_generates(shards: Path, tmp_path: Path) -> None:
    manifest, metrics = write_manifest(shards, tmp_path), str(tmp_path / "metrics.jsonl")
    train_it = ("train", manifest, "--metrics", metrics)

    torchrun = subprocess.run(
        [
            *(f"{Path(sys.executable).parent}/torchrun", "--nproc-per-node", "2"),
            *("-m", "footplate_trainer", *train_it, "--set", "training.steps=4"),
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert torchrun.returncode == 0, torchrun.stderr
    assert "run tiny: 49,312 parameters, 2 ranks on cpu, 4 steps, from the start" in torchrun.stdout

    with lock_folder(str(tmp_path / "checkpoints")):
        code, _, stderr = run_ranks(footplate_trainer, 1, *train_it)[0]
    assert (code, "is in use: process" in stderr) == (ExitCode.CONFIG, True), stderr

    code, stdout, _ = run_ranks(footplate_trainer, 1, *train_it)[0]
    assert code == 0
    assert "1 rank on cpu, 6 steps, from step 4" in stdout
    rows = read_rows(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert rows[0]["loss"] == pytest.approx(math.log(VOCABULARY), rel=0.01)
    shares = [share_of_parts(row) for row in rows]
    assert 0.5 < max(shares) <= 1.0  # the best: what the machine does meanwhile only takes away from it
    assert rows[4]["memoryBytes"] > 50e6
    assert "mfu" not in rows[4]  # nobody knows the peak of this CPU

    sampled = ("generate", str(tmp_path / "checkpoints"), "abc", "--max-new-tokens", "5", "--seed", "1")
    first, second = (run_ranks(footplate_trainer, 1, *sampled)[0] for _ in range(2))
    assert first == second
    assert (first[0], first[2]) == (0, "")
    assert first[1].startswith("abc")

    prompts, out = tmp_path / "prompts.jsonl", tmp_path / "answers.jsonl"
    prompts.write_text('{"prompt": "abc"}\n')
    together = (
        "--prompts",
        str(prompts),
        "--output",
        str(out),
        "--num-return-sequences",
        "2",
        "--max-new-tokens",
        "5",
    )
    code, stdout, stderr = run_ranks(
        footplate_trainer, 1, "generate", str(tmp_path / "checkpoints"), *together
    )[0]
    assert (code, stderr) == (0, "")
    assert f"2 answers to 1 prompts in {out}" in stdout
    assert [json.loads(line)["answer"] for line in out.read_text().splitlines()] == [1, 2]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        pytest.param("data.uri=/nowhere", "/nowhere", id="no-data"),
        pytest.param(
            "model.vocabularySize=380",
            "model.vocabularySize 380 does not cover the shards in",
            id="vocabulary",
        ),
        pytest.param("model.contextLength=20000", "contextLength 20000 needs 20001", id="too-little-data"),
    ],
)
def test_what_cannot_work_is_refused_by_every_rank(
    shards: Path, tmp_path: Path, override: str, message: str
) -> None:
    ended: list[Ended] = run_ranks(train_under, 2, FakeAgent(), tiny_config(shards, tmp_path, [override]))

    assert [end.code for end in ended] == [ExitCode.CONFIG] * 2
    assert message in ended[0].stderr
    assert "Traceback" not in ended[0].stderr


def test_a_corrupt_shard_is_named_by_every_rank(shards: Path, tmp_path: Path) -> None:
    copy = tmp_path / "shards"
    copy.mkdir()
    for file in shards.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    tokens = bytearray((copy / "shard-00000.bin").read_bytes())
    tokens[10] ^= 1
    (copy / "shard-00000.bin").write_bytes(tokens)

    ended: list[Ended] = run_ranks(train_under, 2, FakeAgent(), tiny_config(copy, tmp_path))

    assert [end.code for end in ended] == [ExitCode.CONFIG] * 2
    assert all("shard-00000.bin: sha256" in end.stderr for end in ended)


def test_another_run_does_not_go_on_from_these_checkpoints(shards: Path, tmp_path: Path) -> None:
    config = tiny_config(shards, tmp_path)
    run_ranks(train, 1, config)

    renamed = config.model_copy(update={"run": config.run.model_copy(update={"name": "other"})})
    reseeded = tiny_config(shards, tmp_path, ["data.seed=9"])

    for other, message in ((renamed, "holds checkpoints of run tiny"), (reseeded, "data.seed is 9")):
        ended: list[Ended] = run_ranks(train_under, 1, FakeAgent(), other)
        assert ended[0].code == ExitCode.CONFIG
        assert message in ended[0].stderr


def test_ranks_tell_their_agent_where_they_are(shards: Path, tmp_path: Path) -> None:
    ended: list[Ended] = run_ranks(train_under, 2, FakeAgent(), tiny_config(shards, tmp_path))

    for rank, end in enumerate(ended):
        assert {report.rank for report in end.agent.reports} == {rank}
        assert [report.step for report in end.agent.reports] == sorted(
            report.step for report in end.agent.reports
        )
        assert end.agent.reports[0].phase is RankPhase.LOADING
        assert end.agent.reports[-1].phase is RankPhase.FINISHED
        assert RankPhase.CHECKPOINT in {report.phase for report in end.agent.reports}
    assert [row.step for row in ended[0].agent.rows] == [1, 2, 3, 4, 5, 6]
    assert [record.step for record in ended[0].agent.checkpoints] == [6]
    assert (ended[1].agent.rows, ended[1].agent.checkpoints) == ([], [])


def test_a_finished_run_trains_nothing_more(shards: Path, tmp_path: Path) -> None:
    config = tiny_config(shards, tmp_path)
    run_ranks(train, 2, config)

    ended: list[Ended] = run_ranks(train_under, 2, FakeAgent(), config)

    assert [end.code for end in ended] == [ExitCode.SUCCESS] * 2
    assert ended[0].agent.rows == []
    assert [record.step for record in ended[0].agent.checkpoints] == [6], "whoever waits for it hears of it"
    assert ended[1].agent.checkpoints == []
    assert ended[0].agent.reports[-1].step == 6


class AskedOne(FakeAgent):
    """Only rank 1 has heard of the command yet."""

    def command(self) -> Any:
        return super().command() if os.environ["RANK"] == "1" else FakeAgent().command()


def test_a_command_that_one_rank_knows_ends_all_at_the_same_step(shards: Path, tmp_path: Path) -> None:
    ended: list[Ended] = run_ranks(
        train_under, 2, AskedOne(suspend_after=2), tiny_config(shards, tmp_path, ["training.steps=1000"])
    )

    assert [end.code for end in ended] == [ExitCode.SUSPENDED] * 2
    assert [record.step for record in ended[0].agent.checkpoints] == [3]


def test_rows_that_nobody_stored_come_with_the_checkpoint_of_the_same_run(
    shards: Path, tmp_path: Path
) -> None:
    first, second, third = (tiny_config(shards, tmp_path, [f"training.steps={steps}"]) for steps in (4, 6, 7))
    anew = third.model_copy(update={"run": third.run.model_copy(update={"uid": "another"})})
    ends: list[list[Ended]] = [
        run_ranks(train_under, 2, FakeAgent(), config) for config in (first, second, anew)
    ]
    assert [[len(end.agent.rows) for end in ranks] for ranks in ends] == [[4, 0], [2, 0], [1, 0]]
    given = [[[row.metrics for row in end.agent.rows_again] for end in ranks] for ranks in ends]
    assert given == [[[], []], [ends[0][0].agent.rows, []], [[], []]]


def test_the_peers_of_a_killed_rank_say_that_it_is_lost(shards: Path, tmp_path: Path) -> None:
    error = tmp_path / "error.json"
    config = tiny_config(shards, tmp_path, ["training.steps=100000", "training.logEverySteps=1"])
    ranks = start_ranks(
        train, 2, config, tmp_path / "metrics.jsonl", environment={"TORCHELASTIC_ERROR_FILE": str(error)}
    )
    while not (tmp_path / "metrics.jsonl").exists() or not (tmp_path / "metrics.jsonl").read_text():
        assert ranks.processes[1].is_alive()
        time.sleep(0.01)

    os.kill(ranks.processes[1].pid, signal.SIGKILL)
    ranks.processes[0].join(120)
    ranks.kill()

    failure = json.loads(error.read_text())["failure"]
    assert (failure["cause"], failure["reason"], failure["rank"]) == ("Communication", "PeerLost", 0)


def diverge(config: RunConfig) -> tuple[str, int | None, bool]:
    """Poison one weight, take a step; what was raised, on which rank, and whether weights stayed."""
    with init_distributed(read_environment(os.environ), config.world.backend) as world:
        model = build_model(config, world)
        parameters = dict(model.module.named_parameters())
        weight = local_shard(parameters["norm.weight"]).local
        weight.fill_(math.inf)
        before = {name: local_shard(parameter).local.clone() for name, parameter in parameters.items()}
        optimizer = build_optimizer(model.module, config.training.optimizer)
        stepper = Stepper(model, optimizer, world, 1.0, cross_entropy(Loss()), seed=0)
        loader = open_loader(config, open_shards(config, world, verify=False), model.grid)
        try:
            stepper.step(5, loader.build(4), 0.1, StepFlags())
        except NumericalDivergence as error:
            same = all(
                torch.equal(local_shard(parameter).local, before[name])
                for name, parameter in parameters.items()
            )
            return str(error), error.rank, same
    raise AssertionError("nothing was raised")


def test_a_loss_that_is_not_finite_stops_before_the_update(shards: Path, tmp_path: Path) -> None:
    for message, rank, untouched in run_ranks(diverge, 2, tiny_config(shards, tmp_path)):
        assert "step 5: the loss of rank 0 is not finite" in message
        assert rank == 0
        assert untouched


def diverge_in_the_gradient(config: RunConfig) -> tuple[str, int | None]:
    """Poison what flows back through rank 1, whose loss is fine; what was raised, and on which rank."""
    with init_distributed(read_environment(os.environ), config.world.backend) as world:
        model = build_model(config, world)
        optimizer = build_optimizer(model.module, config.training.optimizer)
        stepper = Stepper(model, optimizer, world, 1.0, cross_entropy(Loss()), seed=0)
        if world.rank == 1:
            model.module.stages[0].network.blocks["1"].feed_forward.register_forward_hook(spoil)
        loader = open_loader(config, open_shards(config, world, verify=False), model.grid)
        try:
            stepper.step(5, loader.build(4), 0.1, StepFlags())
        except NumericalDivergence as error:
            return str(error), error.rank
    raise AssertionError("nothing was raised")


def spoil(module: torch.nn.Module, arguments: Any, output: torch.Tensor) -> None:
    output.register_hook(lambda gradient: gradient * math.nan)


def test_a_gradient_that_is_not_finite_names_its_rank(shards: Path, tmp_path: Path) -> None:
    for message, rank in run_ranks(diverge_in_the_gradient, 2, tiny_config(shards, tmp_path)):
        assert "step 5: the gradient of rank 1 is not finite (global loss 5." in message
        assert rank == 1


def run_as_agents_do(config_file: Path) -> tuple[int, int, set[str]]:
    """The agent's way in: threads before, exit code, and what was imported on the way."""
    threads = len(os.listdir("/proc/self/task"))
    os.environ[Env.RUN_CONFIG] = str(config_file)
    before = set(sys.modules)
    code = run_rank()
    return threads, int(code), set(sys.modules) - before


def test_a_warm_process_forks_ranks_that_import_nothing_more(shards: Path, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(tiny_config(shards, tmp_path).to_json()))

    for threads, code, imported in run_ranks(run_as_agents_do, 2, path):
        assert code == ExitCode.SUCCESS
        assert threads == 1
        assert imported == set()
