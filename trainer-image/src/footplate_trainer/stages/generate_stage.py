"""The program of stage generate: answers to prompts, which become a data set. It trains nothing.

A step is a rollout. There is no checkpoint, as the weights do not change: a run's progress is in its
journals. Each start goes through its rollouts from the first, and reads the answers of finished ones.
Once the data set is complete the journals are deleted, and a start that finds it has nothing left to do.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from footplate_contracts.names import ExitCode
from footplate_contracts.reports import RankPhase
from footplate_contracts.runconfig import RunConfig
from footplate_elastic.protocol.agent_client import AgentClient
from footplate_trainer.callbacks.diagnostics import Diagnostics
from footplate_trainer.callbacks.limits import LeaseCallback, LimitsFollower, SuspensionCallback
from footplate_trainer.callbacks.metric_rows import open_metric_rows
from footplate_trainer.callbacks.reporter import Reporter
from footplate_trainer.checkpoint.store import CheckpointStore
from footplate_trainer.data.check import manifest_digest
from footplate_trainer.data.layout import GeneratedRecord
from footplate_trainer.errors import StorageError
from footplate_trainer.huggingface.load import load_initial
from footplate_trainer.loop.callbacks import Callbacks
from footplate_trainer.loop.limits import RunLimits
from footplate_trainer.parallel.object_collectives import compute_on_rank_0, compute_on_rank_0_with_progress
from footplate_trainer.parallel.parallel_model import build_model
from footplate_trainer.parallel.world import DistributedContext, read_environment, use_determinism
from footplate_trainer.rollout.journal import flush_journals
from footplate_trainer.rollout.output import find_written_dataset
from footplate_trainer.stages.answer_generation import delete_journals, open_answer_generation
from footplate_trainer.stages.critic import check_scoring_models
from footplate_trainer.stages.offline_stages import log_on_rank_0, require_decoder
from footplate_trainer.stages.process import Program, run_stage
from footplate_trainer.stages.start import open_store


def main(config: RunConfig, agent: AgentClient, metrics: Path | None = None) -> ExitCode:
    """Answer the prompts of `config` as the rank that the environment names; see `run_stage`.

    `metrics` is a file for rows beside those that the run configures.
    """

    def stage(config: RunConfig) -> Program:
        require_decoder(config)
        check_scoring_models(config, read_environment(os.environ).world_size)
        return partial(_generate, config, agent, metrics)

    def over(config: RunConfig) -> Program | None:
        assert config.rollout is not None and config.rollout.output is not None
        stands = find_written_dataset(config.rollout.output.uri, config.run.uid) is not None
        return partial(_generate, config, agent, metrics, ended=True) if stands else None

    return run_stage(config, agent, stage, over)


def _generate(
    config: RunConfig,
    agent: AgentClient,
    metrics: Path | None,
    world: DistributedContext,
    reporter: Reporter,
    ended: bool = False,
) -> ExitCode:
    """Run the stage; ranks that found the data set before they joined (`ended`) only finish."""
    assert config.rollout is not None and config.rollout.output is not None
    use_determinism(config.training.deterministic)
    torch.manual_seed(config.training.seed)
    reporter.report_phase(RankPhase.LOADING)
    uri, limits = config.rollout.output.uri, RunLimits(config)
    limits.apply_newest(agent.limits(), world, 0)
    store = open_store(config)
    found = compute_on_rank_0(lambda: _ended(store, uri, config.run.uid), world.background)
    if found is not None:
        return _over(found, uri, limits, world, reporter)
    if ended:
        raise StorageError(f"some ranks do not see the answers in {uri}, or they were removed meanwhile")
    reporter.set_start(0, 0, limits)
    model, loaded = build_model(config, world), None
    if config.init_from is not None:
        loaded = load_initial(config, model.module, world)
        log_on_rank_0(world, f"weights from {loaded.name}")
    model.module.sync_tied()
    with ExitStack() as stack:
        answers = open_answer_generation(config, model, loaded, store, limits, world, reporter, agent, stack)
        reporter.data = answers.output.shards.digest
        rows = replace(open_metric_rows(config, agent, limits, reporter, world, metrics), draws=True)
        # What a peak is compared with is the work of training.
        rows = replace(rows, utilisation=replace(rows.utilisation, tflops=None))
        callbacks = Callbacks(
            reporter,
            LeaseCallback(agent),
            SuspensionCallback(agent),
            Diagnostics(config.checkpoint.uri, agent, world, reporter),
            LimitsFollower(limits, agent, world, 0),
            rows,
        )
        answered = answers.run(callbacks)
        flush_journals(answers.journal, world)
        answers.journal.close()
        callbacks.close()
    if not answered:
        reporter.report_phase(RankPhase.FINISHED)
        log_on_rank_0(world, f"suspended at step {reporter.step} of {limits.steps}; journal in {store.uri}")
        return ExitCode.SUSPENDED
    reporter.report_phase(RankPhase.CHECKPOINT)
    manifest = compute_on_rank_0_with_progress(
        answers.write,
        world.background,
        lambda done: reporter.report_phase(RankPhase.CHECKPOINT, progress=done),
    )
    _finished(uri, world, reporter)
    log_on_rank_0(world, f"finished at step {reporter.step}; answers in {uri}: {manifest.documents}")
    return ExitCode.SUCCESS


def _over(
    found: GeneratedRecord, uri: str, limits: RunLimits, world: DistributedContext, reporter: Reporter
) -> ExitCode:
    # Fewer steps are in the past; more stay asked for, as ranks that end earlier are started anew.
    done = found.rollouts or limits.steps
    limits.apply(limits.in_force.model_copy(update={"steps": max(done, limits.steps)}), 0)
    reporter.set_start(done, 0, limits)
    _finished(uri, world, reporter)
    log_on_rank_0(world, f"nothing left to do: the answers are already in {uri}")
    return ExitCode.SUCCESS


def _finished(uri: str, world: DistributedContext, reporter: Reporter) -> None:
    """Report the digest of the data at `uri`, which a run that reads it as its data requires. Collective."""
    reporter.answers = compute_on_rank_0(lambda: manifest_digest(uri), world.background)
    reporter.report_phase(RankPhase.FINISHED)


def _ended(store: CheckpointStore, uri: str, uid: str) -> GeneratedRecord | None:
    """Return the record of run `uid`'s data set at `uri` and delete leftover journals; None without one."""
    manifest = find_written_dataset(uri, uid)
    if manifest is None:
        return None
    delete_journals(store)
    return manifest.generated
