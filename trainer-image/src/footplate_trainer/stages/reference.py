"""The reference of a stage: loaded in the run's layout, or computed beforehand for all of its data.

This module only decides where its weights come from; `footplate_planning.references` decides which model it
is.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from footplate_contracts.base import digest
from footplate_contracts.reports import GenerationId, RankPhase
from footplate_contracts.runconfig import RunConfig
from footplate_contracts.v1alpha1.data import OverlongPolicy
from footplate_contracts.v1alpha1.model import Model
from footplate_planning.references import ReferenceKind, reference_kind, reference_model
from footplate_trainer.callbacks.reporter import Reporter
from footplate_trainer.checkpoint.durable import warm_start
from footplate_trainer.checkpoint.log_probabilities import LogProbabilityInputs, StoredLogProbabilities
from footplate_trainer.checkpoint.store import CheckpointStore
from footplate_trainer.checkpoint.tensor_reader import read_index
from footplate_trainer.checkpoint.training_state import Key
from footplate_trainer.data import order
from footplate_trainer.data.datasets import Dataset
from footplate_trainer.data.loader import BatchLoader, StepBatch
from footplate_trainer.data.order import Float64s, Int64s
from footplate_trainer.data.packing import Sample
from footplate_trainer.data.preference_dataset import PreferenceDataset, pair_datasets
from footplate_trainer.data.sources import RunShards
from footplate_trainer.errors import StorageError, UserMistake
from footplate_trainer.frozen.frozen_model import open_at, open_initial_model
from footplate_trainer.frozen.source import (
    ModelSource,
    check_tokenizer,
    find_model,
    frozen_config,
    network_config,
    reference_field,
)
from footplate_trainer.loop.stepper import Stepper
from footplate_trainer.metrics.stopwatch import StepPart
from footplate_trainer.model.linear import is_adapter_parameter
from footplate_trainer.model.sequence_field import REFERENCE
from footplate_trainer.parallel import object_collectives
from footplate_trainer.parallel.checksum import weights_checksum
from footplate_trainer.parallel.objective import Objective
from footplate_trainer.parallel.parallel_model import ParallelModel
from footplate_trainer.parallel.reference import (
    AdaptersOff,
    FrozenCopy,
    Reference,
    WithReference,
    reference_sums,
)
from footplate_trainer.parallel.world import DistributedContext
from footplate_trainer.stages.start import StartPosition, get_checkpointed_state

_log = logging.getLogger(__name__)

# In a checkpoint's key: what its history stood on.
_NAMES: Final = ("reference.weights", "reference.step", "reference.alpha", "reference.network")
_WEIGHTS, _STEP, _ALPHA, _NETWORK = _NAMES


def check_reference(config: RunConfig, ranks: int) -> None:
    """Raise UserMistake if the reference's folder has no model that suits the run; not collective."""
    reference = reference_model(config)
    if reference is None or reference.uri is None:
        return
    before = get_checkpointed_state(config)
    known: Key = {} if before is None else before.key
    if reference.precomputed and _WEIGHTS in known:
        return  # its numbers stand beside the checkpoints; where they do not, it is opened and looked at
    pinned = str(known.get(_STEP, "")) or None
    found = find_model(reference.uri, reference_field(config), pinned, config.lineage)
    frozen_config(found, config, ranks)
    _check_unchanged(found, known)


@dataclass(frozen=True)
class OpenReference:
    """A reference with loaded weights."""

    model: Reference
    key: Key  # what its weights are


class StageReference:
    """The reference of a run, as the program of its stage uses it; inert if the stage has none."""

    def __init__(
        self,
        config: RunConfig,
        model: ParallelModel,
        start: StartPosition,
        shards: RunShards,
        world: DistributedContext,
    ) -> None:
        """Load the reference, unless a checkpoint's key shows that it was precomputed. Collective."""
        self._config = config
        self._world = world
        self._grid = model.grid
        self._known = {name: value for name, value in (start.key or {}).items() if name in _NAMES}
        self._open: Callable[[], OpenReference] = lambda: _opened(
            config, model, start, shards, world, self._known
        )
        settings = reference_model(config)
        self._precomputed = settings is not None and settings.precomputed
        needed = settings is not None and not (self._precomputed and self._known)
        self._at_hand = self._checked() if needed else None

    @property
    def key(self) -> Key:
        """Key of the weights in a checkpoint: a run that continues must find the same."""
        return self._known if self._at_hand is None else self._at_hand.key

    @property
    def checksum(self) -> str:
        """Digest of its weights, and of its other inputs."""
        network = [] if self._network is None else [self._network]
        return digest([self.key[_WEIGHTS], self.key.get(_ALPHA), *network])

    @property
    def _network(self) -> str | None:
        """Digest of a `uri` model's configuration besides weights; None for other references."""
        known = self.key.get(_NETWORK)
        return None if known is None else digest(network_config(Model.from_any_release(known)))

    @property
    def model(self) -> Reference | None:
        """The loaded reference, if any."""
        return None if self._at_hand is None else self._at_hand.model

    def objective(self, objective: Objective) -> Objective:
        """Return `objective` against the reference, or unchanged if precomputed or without a reference."""
        if self._precomputed or self._at_hand is None:
            return objective
        return WithReference(objective, self._at_hand.model, REFERENCE)

    def precompute(
        self,
        datasets: Sequence[Dataset],
        store: CheckpointStore,
        stepper: Stepper,
        reporter: Reporter,
        generation: GenerationId,
    ) -> None:
        """Precompute the reference's numbers for `datasets`, if configured, and unload the model. Collective.

        Raises StorageError if they cannot be stored, and the errors of loading the model.
        """
        if not self._precomputed:
            return
        parts = [part for dataset in datasets for part in pair_datasets(dataset)]
        kept, of = StoredLogProbabilities(store), [self._of(part) for part in parts]
        group = self._world.background
        known: dict[str, Float64s] = {}
        for part, wanted in zip(parts, of, strict=True):
            if wanted.key not in known:
                values = object_collectives.compute_on_rank_0(partial(kept.find, wanted), group)
                if values is None:
                    keep = partial(kept.write, wanted, self._score(part, stepper, reporter), generation)
                    values = object_collectives.compute_on_rank_0(keep, group)
                known[wanted.key] = values
            part.reference = known[wanted.key]
        object_collectives.compute_on_rank_0(lambda: kept.delete_others(of), group)
        self._known, self._at_hand = self.key, None
        reporter.report_phase(RankPhase.LOADING)

    def _of(self, part: PreferenceDataset) -> LogProbabilityInputs:
        return LogProbabilityInputs(
            weights=str(self.key[_WEIGHTS]),
            data=part.shards.manifest.digest,
            documents=part.shards.documents,
            context_length=part.context_length,
            precision=self._config.training.precision,
            overlong=self._config.data.overlong or OverlongPolicy.REFUSE,
            alpha=alpha if isinstance(alpha := self.key.get(_ALPHA), float) else None,
            network=self._network,
        )

    def _checked(self) -> OpenReference:
        """Load the reference; raise UserMistake if an earlier generation had other weights."""
        found = self._open()
        before, now = self._known.get(_WEIGHTS), found.key[_WEIGHTS]
        if before not in (None, now):
            place = reference_model(self._config)
            where = place.uri if place is not None and place.uri else "where the run began"
            raise UserMistake(
                f"{reference_field(self._config)}: the weights in {where} have changed since this run began "
                f"(checksum {now}, was {before}); restore them, or start another run"
            )
        return found

    def _score(self, part: PreferenceDataset, stepper: Stepper, reporter: Reporter) -> Float64s:
        """Return each document's sum over its answer: float64 [documents], NaN for an unused document."""
        if self._at_hand is None:
            self._at_hand = self._checked()
        model, grid, training = self._at_hand.model, self._grid, self._config.training
        loader = BatchLoader(
            _Once(part),
            seed=0,
            global_batch_size=training.global_batch_size,
            micro_batch_size=training.micro_batch_size,
            data_rank=grid.coordinates.data,
            data_degree=grid.topology.data,
        )
        sums = torch.zeros(part.shards.documents, dtype=torch.float64)
        counts = grid.coordinates.tensor == 0 and grid.coordinates.context == 0
        with stepper.stopwatch.time(StepPart.SCORING):
            for number in range(-(-len(part) // loader.global_batch_size)):
                reporter.report_phase(RankPhase.SCORING, progress=number * loader.global_batch_size)
                batch = loader.build(number)
                micro_batches = [stepper.inputs(micro, 0) for micro in batch.micro_batches]
                found = {id(targets): told for targets, told in reference_sums(model, micro_batches, grid)}
                for micro, given in zip(batch.micro_batches, micro_batches, strict=True):
                    if counts and id(given.targets) in found:
                        _put(sums, part, batch, micro.places, found[id(given.targets)])
        loader.close()
        reporter.report_phase(RankPhase.COLLECTIVE)
        there = sums.to(self._world.device)
        dist.all_reduce(there)
        values = np.full(part.shards.documents, np.nan)
        kept = np.concatenate([part.documents_of(row) for row in range(len(part))])
        values[kept] = there.numpy(force=True)[kept]
        return values


def _opened(
    config: RunConfig,
    model: ParallelModel,
    start: StartPosition,
    shards: RunShards,
    world: DistributedContext,
    known: Key,
) -> OpenReference:
    """Load the weights from the source that `reference_kind` returns. Collective.

    Raises UserMistake, on every rank, if the network is configured otherwise than in `known`.
    """
    step, network = str(known.get(_STEP, "")), {}
    match reference_kind(config):
        case ReferenceKind.ADAPTERS_OFF:
            if start.key is None:
                object_collectives.compute_on_rank_0(
                    lambda: _refuse_adapters_of_elsewhere(config), world.background
                )
            frozen = {
                name: parameter
                for name, parameter in model.module.named_parameters()
                if not is_adapter_parameter(name)
            }
            return OpenReference(AdaptersOff(model), {_WEIGHTS: weights_checksum(frozen, world.background)})
        case ReferenceKind.START:
            copy = open_initial_model(config, model, world, step or start.directory)
            trained = dict(model.module.named_parameters())
            if start.key is None and weights_checksum(trained, world.background) != copy.checksum:
                raise StorageError(
                    "the weights that this run starts from changed while they were read; use a step, or a "
                    "folder that does not change"
                )
        case _:
            reference = reference_model(config)
            assert reference is not None and reference.uri is not None
            found, copy = open_at(reference.uri, reference_field(config), config, model, world, step)
            check_tokenizer(found, shards.tokenizer, shards.vocabulary_size)
            _check_unchanged(found, known)
            network = {_NETWORK: found.model.to_json()}
    apart = {_STEP: copy.step or None, _ALPHA: copy.alpha, **network}
    named = {name: told for name, told in apart.items() if told is not None}
    return OpenReference(FrozenCopy(copy.model), {_WEIGHTS: copy.checksum, **named})


def _check_unchanged(found: ModelSource, known: Key) -> None:
    """Raise UserMistake if the model computes otherwise than a checkpoint's key `known` states."""
    if _NETWORK in known and (changed := found.changed_since(known[_NETWORK])):
        raise found.changed_mistake(changed)


def _refuse_adapters_of_elsewhere(config: RunConfig) -> None:
    """Raise UserMistake if the run began with more than its network without adapters."""
    if config.resume_from is None:
        return
    for checkpoint in warm_start.iter_source_checkpoints(config.resume_from):
        if any(map(is_adapter_parameter, read_index(checkpoint).tensors)):
            raise UserMistake(
                f"resumeFrom {checkpoint.name} has adapters, which are part of the weights that this run "
                "starts from; export them merged and set initFrom to the export, or set "
                f"{reference_field(config)}"
            )
        return


def _put(sums: Tensor, part: PreferenceDataset, batch: StepBatch, places: Int64s, told: Tensor) -> None:
    """Write fp64 `told` [n, D] of the rows at the batch's `places` to the indices of their documents."""
    rows = told.cpu()
    for place, row in zip(places.tolist(), rows, strict=True):
        sample = int(batch.sample_ids[place]) if place != order.FILLER else order.FILLER
        if sample >= 0:
            documents = torch.from_numpy(part.documents_of(sample))
            sums[documents] = row[: len(documents)]


class _Once(Dataset):
    """The rows of a data set once, in their order; fillers after the last."""

    def __init__(self, dataset: PreferenceDataset) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def sample_ids(self, seed: int, indices: Int64s) -> Int64s:
        return np.where(indices < len(self), indices, order.FILLER)

    def get(self, sample_id: int, index: int = 0) -> Sample:
        return self._dataset.get(sample_id, index)

    @property
    def count_names(self) -> tuple[str, ...]:
        return self._dataset.count_names

    def counts(self, sample: Sample) -> tuple[int, ...]:
        return self._dataset.counts(sample)
