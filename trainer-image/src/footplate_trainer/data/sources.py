"""The shards of a run: one folder, or the folders of a mixture, which must agree with each other.

One model reads them all, so a token id has to mean the same everywhere; and one loss is computed over them,
so they have to hold the same kind of record. A difference is the user's mistake, and the message names both
sides of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from pydantic import JsonValue

from footplate_contracts.stages import DEFAULT_STAGE, STAGES, StageRules
from footplate_contracts.v1alpha1.data import Data, LossMask, MaskingName, OverlongPolicy
from footplate_contracts.v1alpha1.preference import PREFERENCE_LOSSES, Preference
from footplate_contracts.v1alpha1.training import LossName
from footplate_trainer.data.check import data_sources, tokenizer_bytes
from footplate_trainer.data.conversation_dataset import ConversationDataset
from footplate_trainer.data.datasets import (
    Dataset,
    MaskedDataset,
    PairDataset,
    RegressionDataset,
    SequenceDataset,
    SpanDataset,
)
from footplate_trainer.data.layout import RecordKind, ShardManifest, SpecialTokenRole
from footplate_trainer.data.mixture import Mixture, MixtureSource
from footplate_trainer.data.preference_dataset import OrpoDataset, PreferenceDataset, RatingDataset
from footplate_trainer.data.prompt_dataset import PromptDataset
from footplate_trainer.data.shards import TokenShards
from footplate_trainer.errors import UserMistake

_FORMATS = {
    LossName.CROSS_ENTROPY: RecordKind.TOKENS,
    LossName.CONTRASTIVE: RecordKind.PAIRS,
    LossName.MSE: RecordKind.REGRESSION,
}


@dataclass(frozen=True)
class OpenSource:
    """An open folder of shards; a single one has no name."""

    name: str
    weight: float
    shards: TokenShards


@dataclass(frozen=True)
class RunShards:
    """All folders of a run, open."""

    sources: tuple[OpenSource, ...]
    tokenizer: bytes  # tokenizer.json

    @classmethod
    def open(cls, data: Data, *, verify: tuple[int, int] | None = None, local_rank: int = 0) -> Self:
        """Open the folders of `data` (see TokenShards.open).

        Raises DataError, and UserMistake for sources that do not agree.
        """
        sources = tuple(
            OpenSource(name, weight, TokenShards.open(uri, verify=verify, local_rank=local_rank))
            for name, uri, weight in data_sources(data)
        )
        _agree(sources, any_tokenizer=data.tokenizer is not None)
        own = data.tokenizer and tokenizer_bytes(data.tokenizer.uri)
        return cls(sources, own or sources[0].shards.tokenizer_path.read_bytes())

    @property
    def vocabulary_size(self) -> int:
        """The largest token id + 1; the model's must be at least this."""
        return max(source.shards.vocabulary_size for source in self.sources)

    @property
    def format(self) -> RecordKind:
        """The format of the packed records, the same in every source."""
        return self.sources[0].shards.format

    @property
    def digest(self) -> str:
        """A digest that is equal for equal tokens in equal shards, at any URI: 16 hex digits of SHA-256."""
        return self._digest(lambda manifest: manifest.digest)

    @property
    def values_digest(self) -> str | None:
        """A digest of the values of a regression, as `digest` is of tokens; None for other data."""
        if self.format is not RecordKind.REGRESSION:
            return None
        return self._digest(lambda manifest: manifest.values_digest)

    @property
    def template(self) -> str | None:
        """The first source's chat template; None if no template was applied."""
        return self.sources[0].shards.template

    @property
    def turn_ends(self) -> list[JsonValue]:
        """The ids that each source's template writes after an answer to a prompt; null: not recorded."""
        records = [source.shards.manifest.samples for source in self.sources]
        ends = [None if record is None else record.turn_end for record in records]
        return [None if end is None else [*end] for end in ends]

    def _digest(self, of: Callable[[ShardManifest], str]) -> str:
        if not self.sources[0].name:
            return of(self.sources[0].shards.manifest)
        parts = [f"{source.name}:{source.weight}:{of(source.shards.manifest)}" for source in self.sources]
        return hashlib.sha256("/".join(parts).encode()).hexdigest()[:16]


def dataset_of(
    shards: RunShards,
    data: Data,
    loss: str,
    context_length: int,
    rules: StageRules = STAGES[DEFAULT_STAGE],
    preference: Preference | None = None,
) -> Dataset:
    """Build the data set that `loss`, or the loss of `preference`, reads in a stage of these `rules`.

    UserMistake where the loss or the stage needs data of another format.
    """
    wanted = RecordKind(rules.data_format) if rules.data_format else None
    by = f"stage {rules.stage}"
    if preference is not None and rules.compares:
        wanted = RecordKind(PREFERENCE_LOSSES[preference.loss].data_format)
        by += f" with loss {preference.loss}" if str(wanted) != rules.data_format else ""
    if wanted is None:
        wanted, by = _FORMATS.get(LossName(loss)) if loss in set(LossName) else None, f"training.loss {loss}"
    if wanted not in (None, shards.format):
        raise UserMistake(
            f"{by} is trained on data packed with --format {wanted}, but {shards.sources[0].shards.uri} has "
            f"{shards.format}"
        )
    if data.masking is not None and shards.format is not RecordKind.TOKENS:
        raise UserMistake(f"data.masking needs running text; format {shards.format} has none")
    try:
        built = [
            _dataset(source.shards, data, context_length, rules, preference) for source in shards.sources
        ]
    except ValueError as error:
        raise UserMistake(str(error)) from error
    if not shards.sources[0].name:
        return built[0]
    return Mixture(
        [
            MixtureSource(source.name, source.weight, dataset)
            for source, dataset in zip(shards.sources, built, strict=True)
        ]
    )


def _dataset(
    shards: TokenShards, data: Data, context_length: int, rules: StageRules, preference: Preference | None
) -> Dataset:
    overlong = data.overlong or OverlongPolicy.REFUSE
    match shards.format if rules.data_format else None:
        case RecordKind.CHAT:
            return ConversationDataset(
                shards, context_length, data.packing, mask=data.mask, overlong=overlong
            )
        case RecordKind.RATINGS:
            return RatingDataset(shards, context_length, overlong=overlong)
        case RecordKind.PREFERENCES if (
            preference is not None and PREFERENCE_LOSSES[preference.loss].learns_chosen
        ):
            return OrpoDataset(
                shards,
                context_length,
                data.packing,
                everything=data.mask is LossMask.ALL,
                overlong=overlong,
            )
        case RecordKind.PREFERENCES:
            return PreferenceDataset(shards, context_length, data.packing, overlong=overlong)
        case RecordKind.PROMPTS:
            return PromptDataset(shards, context_length)
    if shards.format is RecordKind.PAIRS:
        return PairDataset(shards, context_length)
    if shards.format is RecordKind.REGRESSION:
        return RegressionDataset(shards, context_length)
    if shards.format.is_conversational:
        raise UserMistake(
            f"{shards.uri} has {shards.format}, but this stage trains on tokens, pairs or regression"
        )
    masking = data.masking
    if masking is None:
        return SequenceDataset(shards, context_length, data.packing)
    kind = MaskedDataset if masking.name is MaskingName.MLM else SpanDataset
    return kind(shards, context_length, data.packing, masking, data.seed)


def _agree(sources: tuple[OpenSource, ...], *, any_tokenizer: bool) -> None:
    first = sources[0]
    for other in sources[1:]:
        for what, mine, theirs in (
            ("format", first.shards.format, other.shards.format),
            ("tokenizer", *(source.shards.manifest.tokenizer.sha256[:12] for source in (first, other))),
            ("special ids", _special_ids(first.shards), _special_ids(other.shards)),
            ("margin", *(_margins(source.shards) for source in (first, other))),
            ("chat template", *(_template(source.shards) for source in (first, other))),
        ):
            if mine != theirs and not (any_tokenizer and what == "tokenizer"):
                raise UserMistake(
                    f"data.sources {first.name} and {other.name} do not match: {what} {mine} and {theirs}; "
                    "pack them with one --tokenizer, --format and --chat-template"
                )


def _template(shards: TokenShards) -> str:
    record = shards.manifest.samples
    return record.template.sha256[:12] if record is not None and record.template is not None else "none"


def _margins(shards: TokenShards) -> str:
    return "in each row" if any(shard.values for shard in shards.manifest.shards) else "in no row"


def _special_ids(shards: TokenShards) -> str:
    """Format the ids of each role for a message; other ends of a text do not change an id's meaning."""
    found = {role: shards.special.of(role) for role in SpecialTokenRole}
    return ", ".join(
        f"{role} {ids[0]}" + (f" … {ids[-1]}" if len(ids) > 1 else "") for role, ids in found.items() if ids
    )
