"""The answers of a run as a data set of conversations, as `pack --format chat` would have written it.

A sample is the tokens of a prompt, followed by those that were sampled: never a text that is encoded again.
Only the sampled tokens and the end token are trained on. An answer that a stop text ended is followed by the
token that ends a turn, or a text (`closing`), since a model trained on it should end, too; the end of a turn
is followed by the tokens that the chat template writes there, which are not trained on. The content follows
from the journal, so every writer, at any time, writes the same bytes.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from pydantic import ValidationError

from footplate_contracts.v1alpha1.data import LossMask, OverlongPolicy
from footplate_contracts.v1alpha1.rollout import RolloutOutput
from footplate_trainer.checkpoint.folder import Folder
from footplate_trainer.checkpoint.store import storage_errors
from footplate_trainer.data.layout import (
    MANIFEST_FILE,
    TEMPLATE_FILE,
    TOKENIZER_FILE,
    GeneratedRecord,
    RecordKind,
    SamplesRecord,
    ShardManifest,
    SourceRecord,
    token_type_for,
)
from footplate_trainer.data.pack import SHARD_TOKENS
from footplate_trainer.data.prompt_dataset import AppendedEndTokens, Prompt, PromptOrder
from footplate_trainer.data.sample_shards import SampleDocument, SampleWriter, StoredSample
from footplate_trainer.data.sources import RunShards
from footplate_trainer.data.writer import check_free, new_folder, overwrite_remote, write_file
from footplate_trainer.errors import StorageError, UserMistake, WriteInProgress
from footplate_trainer.generation.requests import EndReason
from footplate_trainer.rewards.reward_samples import Outcome, SampleKey, Unrewarded
from footplate_trainer.rollout import journal
from footplate_trainer.rollout.advantages import complete_reward_sums
from footplate_trainer.rollout.journal_keys import JournalKey
from footplate_trainer.rollout.journal_records import RolloutState, SampleRecord
from footplate_trainer.rollout.reward_normalization import RewardNormalizer, normalized_reward_sums
from footplate_trainer.rollout.settings import RolloutSettings
from footplate_trainer.storage import is_local, local_path, open_storage

UNENDED: Final = "cut off at rollout.maxTokens, or at the end of the context"
UNCLOSED: Final = "no token, or no room, for the end of its turn"
UNREWARDED: Final = "no reward"
WORSE: Final = "not among the best"


_FIELD: Final = "rollout.output.uri"


def find_written_dataset(uri: str, uid: str) -> ShardManifest | None:
    """Return the manifest of the run `uid`'s answers if they are at `uri` already, else None.

    Raises UserMistake if other data is there, or nothing can be written there; StorageError while the storage
    does not respond.
    """
    with storage_errors(f"{_FIELD} {uri}"):
        try:
            if (found := _of_run(uri, uid)) is not None:
                return found
            try:
                _check_free(uri)
            except ValueError:
                # An earlier generation may have ended it in between.
                if (found := _of_run(uri, uid)) is None:
                    raise
                return found
        except ValueError as error:
            raise UserMistake(f"{_FIELD} {uri}: {error}; use a folder that does not exist yet") from error
    return None


def _of_run(uri: str, uid: str) -> ShardManifest | None:
    """Return the manifest at `uri`, if there is one; raise ValueError if it is not the run `uid`'s."""
    if MANIFEST_FILE not in _names(uri):
        return None
    found = _manifest(open_storage(uri).read(MANIFEST_FILE))
    if found is None or found.generated is None or found.generated.uid != uid:
        raise ValueError("already has a data set")
    return found


def _check_free(uri: str) -> None:
    """Raise ValueError if a data set cannot be written at `uri`."""
    if is_local(uri):
        check_free(local_path(uri))
    elif any(not _is_ours(name) for name in _names(uri)):
        raise ValueError("is not empty")


def _names(uri: str) -> list[str]:
    return [stored.name for stored in open_storage(uri).list()]


def _manifest(content: bytes) -> ShardManifest | None:
    try:
        return ShardManifest.model_validate_json(content)
    except ValidationError:
        return None


def _is_ours(name: str) -> bool:
    """Return whether an unfinished attempt to write a data set, without a manifest yet, may have left it."""
    return name in (TOKENIZER_FILE, TEMPLATE_FILE) or name.startswith("shard-")


@dataclass
class _Counts:
    alive: Callable[[int], None]
    done: int = 0
    samples: int = 0
    bytes: int = 0
    dropped: Counter[str] = field(default_factory=Counter)

    def count(self) -> None:
        """Count a written sample or file, and report progress."""
        self.done += 1
        self.alive(self.done)


@dataclass(frozen=True)
class AnswerOutput:
    """The destination of a run's answers, and all that their content follows from."""

    output: RolloutOutput
    settings: RolloutSettings
    prompts: PromptOrder
    shards: RunShards  # of the prompts
    folder: Folder  # in which the journals are
    key: JournalKey  # of the journals
    weights: Mapping[str, float]  # of rewards
    context_length: int
    record: GeneratedRecord
    text_of: Callable[[Sequence[int]], str]
    closing: AppendedEndTokens  # of answers that a text stopped
    normaliser: RewardNormalizer | None = None  # of the reward model's scores, where there is one

    def write(
        self, rollouts: Sequence[range], alive: Callable[[int], None] = lambda done: None
    ) -> ShardManifest:
        """Write all `rollouts`, ranges of prompt indices, with their answers; on one rank.

        Another generation may do the same at the same time, and then remove the journals: if that generation
        was quicker, its manifest is returned. `alive` receives the number of samples and files written so
        far. Raises UserMistake if no answer remains, or other data has been written there meanwhile;
        StorageError while another process writes there.
        """
        try:
            return self._written(rollouts, _Counts(alive))
        except (WriteInProgress, StorageError, ValueError) as error:
            if (quicker := find_written_dataset(self.output.uri, self.record.uid)) is not None:
                return quicker
            if isinstance(error, StorageError):
                raise
            told = StorageError if isinstance(error, WriteInProgress) else UserMistake
            raise told(f"{_FIELD}: {error}") from error

    def _written(self, rollouts: Sequence[range], counts: _Counts) -> ShardManifest:
        uri = self.output.uri

        def made(folder: Path) -> ShardManifest:
            with new_folder(folder) as new:
                return self._write(new, rollouts, counts)

        with storage_errors(f"{_FIELD} {uri}"):
            return made(local_path(uri)) if is_local(uri) else overwrite_remote(uri, made, counts.count)

    def _write(self, folder: Path, rollouts: Sequence[range], counts: _Counts) -> ShardManifest:
        prompts = self.shards.sources[0].shards
        writer = SampleWriter(folder, token_type_for(prompts.vocabulary_size), SHARD_TOKENS)
        for sample in self._samples(rollouts, counts):
            writer.add_sample(sample)
        writer.flush()
        if not writer.shards:
            reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(counts.dropped.items()))
            raise ValueError(f"no answer is left for {self.output.uri}: {reasons}")
        manifest = ShardManifest(
            format=RecordKind.CHAT,
            dtype=writer.token_type,
            vocabulary_size=prompts.vocabulary_size,
            special_ids=prompts.special,
            tokenizer=write_file(folder / TOKENIZER_FILE, [self.shards.tokenizer]),
            shards=writer.shards,
            tokens=sum(shard.tokens for shard in writer.shards),
            documents=sum(shard.documents for shard in writer.shards),
            sources=[
                SourceRecord(
                    input=f"answers of run {self.record.run}",
                    documents=counts.samples,
                    bytes=counts.bytes,
                    skipped=counts.dropped.total(),
                )
            ],
            seed=self.settings.seed,
            samples=self._samples_record(folder, counts),
            generated=self.record.model_copy(update={"rollouts": len(rollouts)}),
        )
        write_file(folder / MANIFEST_FILE, [json.dumps(manifest.to_json(), indent=2).encode() + b"\n"])
        return manifest

    def _samples_record(self, folder: Path, counts: _Counts) -> SamplesRecord:
        prompts = self.shards.sources[0].shards
        before = prompts.manifest.samples
        assert before is not None, "prompts are conversations"
        content = self.shards.template
        template = None if content is None else write_file(folder / TEMPLATE_FILE, [content.encode()])
        return SamplesRecord(
            template=template,
            date=before.date,
            mask=LossMask.COMPLETION,
            context_length=self.context_length,
            overlong=OverlongPolicy.DROP,
            cut=0,
            dropped=dict(sorted(counts.dropped.items())),
        )

    def _samples(self, rollouts: Sequence[range], counts: _Counts) -> Iterator[StoredSample]:
        for step, places in enumerate(rollouts):
            kept = journal.read_rollout(self.folder, step, self.key)
            sums = self._sums(kept)
            for place in places:
                keys = [SampleKey(step, place, sibling) for sibling in range(self.settings.group)]
                if not all(key in sums for key in keys):
                    raise StorageError(f"{self.folder.uri}: the journal of rollout {step} is gone")
                prompt = self.prompts.at(place)
                closing = self.closing.for_prompt(prompt)
                room = 0 if closing is None else self.context_length - len(prompt.tokens) - 1
                found = select_answers([kept.samples[key] for key in keys], sums, self.output.best, room)
                counts.dropped += found.dropped
                for answer in found.answers:
                    columns = self._columns(answer.key, kept, sums)
                    sample = _sample(prompt, answer, closing, columns, self.context_length)
                    counts.count()
                    counts.samples += 1
                    counts.bytes += len(self.text_of(sample.documents[0].tokens.tolist()).encode())
                    yield sample

    def _sums(self, kept: RolloutState) -> dict[SampleKey, Outcome]:
        """Return sums of the answers that have all rewards."""
        if self.normaliser is None:
            return complete_reward_sums(kept, self.weights)
        return normalized_reward_sums(kept.rewards, kept.rewards, self.weights, self.normaliser)

    def _columns(
        self, key: SampleKey, kept: RolloutState, sums: Mapping[SampleKey, Outcome]
    ) -> dict[str, object] | None:
        """Return an answer's raw rewards and their sum; null for a missing one. None without rewards."""
        if not self.weights:
            return None
        told = {name: kept.rewards[key][name] for name in self.weights}
        return {"reward": _number(sums[key]), "rewards": {name: _number(of) for name, of in told.items()}}


def _sample(
    prompt: Prompt,
    answer: SampleRecord,
    closing: int | None,
    columns: dict[str, object] | None,
    context_length: int,
) -> StoredSample:
    """Build a sample that ends with `answer` and the template's tokens after its end, as far as they fit."""
    end = [closing] if is_ended_by_stop_text(answer) else []
    taught = np.concatenate((prompt.tokens, answer.tokens, np.array(end, dtype=np.int64))).astype(np.int64)
    behind = np.array(prompt.tokens_after_end(int(taught[-1])), dtype=np.int64)[
        : context_length - len(taught)
    ]
    places = np.arange(len(taught) + len(behind))
    learnt = (len(prompt.tokens) <= places) & (places < len(taught))
    document = SampleDocument(np.concatenate((taught, behind)), learnt, len(prompt.tokens))
    return StoredSample((document,), columns)


def _number(told: Outcome | str) -> float | None:
    return told if isinstance(told, float) and math.isfinite(told) else None


@dataclass(frozen=True)
class SelectedAnswers:
    """Selected and dropped answers to one prompt."""

    answers: list[SampleRecord]  # in the order of siblings
    dropped: Counter[str]  # by reason


def select_answers(
    group: Sequence[SampleRecord], sums: Mapping[SampleKey, Outcome], best: int | None, closed: int
) -> SelectedAnswers:
    """Select from a `group` the answers that have an end and, if `best` is given, the `best` highest sums.

    An answer that was cut off would teach to go on without an end; so would an answer ended by a stop text,
    unless it has at most `closed` tokens, after which there is a token, and room, to end its turn. Among
    equal sums the first sibling is selected.
    """
    dropped: Counter[str] = Counter()
    stopped = [answer for answer in group if answer.reason is not EndReason.LENGTH]
    dropped[UNENDED] += len(group) - len(stopped)
    ended = [
        answer for answer in stopped if not is_ended_by_stop_text(answer) or len(answer.tokens) <= closed
    ]
    dropped[UNCLOSED] += len(stopped) - len(ended)
    if best is not None:
        rated = [
            (-told, answer.key.sibling, answer)
            for answer in ended
            if not isinstance(told := sums[answer.key], Unrewarded)
        ]
        dropped[UNREWARDED] += len(ended) - len(rated)
        chosen = sorted(rated, key=lambda entry: entry[:2])[:best]
        dropped[WORSE] += len(rated) - len(chosen)
        ended = sorted((answer for *_, answer in chosen), key=lambda answer: answer.key.sibling)
    return SelectedAnswers(ended, +dropped)


def is_ended_by_stop_text(answer: SampleRecord) -> bool:
    """Return whether a stop text ended the answer, so that it lacks the token that ends a turn."""
    return answer.reason is EndReason.STOP
