"""Binary format of a rollout's journal, and the state that its records restore: pure.

A file is a sequence of records, each with its length and a checksum in front. A process that is killed while
it appends leaves a torn record at the end, where reading stops; all before it counts. Numbers
are little-endian and of fixed width, so that a token's log-probability is restored bit for bit.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from footplate_contracts.reports import GenerationId
from footplate_trainer.generation.requests import EndReason
from footplate_trainer.rewards.reward_samples import Outcome, SampleKey
from footplate_trainer.rollout.journal_keys import JournalKey, reward_name, scores_name

Float32s = NDArray[np.float32]
Int32s = NDArray[np.int32]

FORMAT: Final = 2
_FRAME: Final = struct.Struct("<I8s")  # bytes of the payload, and its checksum
_KEY: Final = struct.Struct("<Bqqi")  # kind, step, prompt, sibling
_COUNT: Final = struct.Struct("<BI")  # reason, tokens
_MARK: Final = struct.Struct("<8s")  # of a sample's tokens
_REASONS: Final = tuple(EndReason)  # by number in a file: only ever longer


class _Kind(IntEnum):
    SAMPLE = 1
    REWARDS = 2
    SCORES = 3


@dataclass(frozen=True, eq=False)
class SampleRecord:
    """An answer as it was sampled."""

    key: SampleKey
    tokens: Int32s  # [n]
    sampled: Float32s  # [n]: log-probability of each among those that could be drawn
    full: Float32s  # [n]: as the model has it
    reason: EndReason

    @property
    def mark(self) -> bytes:
        """Digest that is equal for equal tokens: it ties rewards and scores to exactly this answer."""
        return _digest(self.tokens.astype("<i4").tobytes())


@dataclass(frozen=True)
class RewardsRecord:
    """Rewards of an answer, by name: a number, or the reason for its absence."""

    key: SampleKey
    mark: bytes  # of the answer
    values: Mapping[str, float | str]
    settled: bool = True  # nobody is to ask again; no file holds what is not


@dataclass(frozen=True, eq=False)
class ScoresRecord:
    """Numbers that a model computed once of an answer: log-probabilities, or values of positions."""

    key: SampleKey
    mark: bytes
    name: str  # which model's
    values: Float32s  # [n]


Record = SampleRecord | RewardsRecord | ScoresRecord


def encode_records(records: Iterable[Record]) -> bytes:
    """Encode records for appending to a file."""
    return b"".join(_framed(_payload(record)) for record in records)


def header(key: JournalKey) -> bytes:
    """Encode a file's header, which identifies by `key` its samples, rewards and scores."""
    return _framed(json.dumps({"format": FORMAT, "key": key.answers, "said": dict(key.said)}).encode())


def key_of(content: bytes) -> JournalKey | None:
    """Decode a file's key; None if it is empty, torn within its header, or of another format."""
    first = next(_Payloads(content), None)
    told = {} if first is None else json.loads(first)
    return JournalKey(told["key"], told["said"]) if told.get("format") == FORMAT else None


def decode_records(content: bytes, key: JournalKey) -> tuple[list[Record], bool]:
    """Return the whole records of a file that match `key`, and whether nothing torn or foreign follows them.

    A file of other answers, or in another format, yields none. From a file of the same answers, rewards and
    scores of functions and models that have changed since are left out.
    """
    written = key_of(content)
    if written is None or written.answers != key.answers:
        return [], not content
    others, payloads = key.differing(written.said), _Payloads(content)
    next(payloads)  # the header
    records = [kept for payload in payloads if (kept := _without(_record(payload), others)) is not None]
    return records, payloads.whole


def _without(record: Record, names: Collection[str]) -> Record | None:
    """Return `record` without the values under `names`; None if nothing is left."""
    if isinstance(record, RewardsRecord):
        left = {name: told for name, told in record.values.items() if reward_name(name) not in names}
        return replace(record, values=left) if left else None
    if isinstance(record, ScoresRecord) and scores_name(record.name) in names:
        return None
    return record


def _framed(payload: bytes) -> bytes:
    return _FRAME.pack(len(payload), _digest(payload)) + payload


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=8).digest()


class _Payloads(Iterator[bytes]):
    """Iterator over the payloads of a file's whole records."""

    def __init__(self, content: bytes) -> None:
        self._content, self._place = content, 0

    @property
    def whole(self) -> bool:
        """True if all of the file was read."""
        return self._place == len(self._content)

    def __next__(self) -> bytes:
        start = self._place + _FRAME.size
        if start > len(self._content):
            raise StopIteration
        length, checksum = _FRAME.unpack_from(self._content, self._place)
        payload = self._content[start : start + length]
        if len(payload) < length or _digest(payload) != checksum:
            raise StopIteration
        self._place = start + length
        return payload


def _payload(record: Record) -> bytes:
    key = record.key
    if isinstance(record, SampleRecord):
        counts = _COUNT.pack(_REASONS.index(record.reason), len(record.tokens))
        columns = (record.tokens.astype("<i4"), record.sampled.astype("<f4"), record.full.astype("<f4"))
        rest = counts + b"".join(column.tobytes() for column in columns)
        kind = _Kind.SAMPLE
    elif isinstance(record, RewardsRecord):
        rest = _MARK.pack(record.mark) + json.dumps(dict(record.values)).encode()
        kind = _Kind.REWARDS
    else:
        name = record.name.encode()
        rest = _MARK.pack(record.mark) + bytes([len(name)]) + name + record.values.astype("<f4").tobytes()
        kind = _Kind.SCORES
    return _KEY.pack(kind, key.step, key.prompt, key.sibling) + rest


def _record(payload: bytes) -> Record:
    kind, *numbers = _KEY.unpack_from(payload)
    key, rest = SampleKey(*numbers), payload[_KEY.size :]
    if kind == _Kind.SAMPLE:
        reason, count = _COUNT.unpack_from(rest)
        tokens, sampled, full = (
            np.frombuffer(rest, dtype, count, _COUNT.size + 4 * count * place)
            for place, dtype in enumerate(("<i4", "<f4", "<f4"))
        )
        return SampleRecord(key, tokens, sampled, full, _REASONS[reason])
    mark, rest = rest[: _MARK.size], rest[_MARK.size :]
    if kind == _Kind.REWARDS:
        return RewardsRecord(key, mark, json.loads(rest))
    name, values = rest[1 : 1 + rest[0]], rest[1 + rest[0] :]
    return ScoresRecord(key, mark, name.decode(), np.frombuffer(values, "<f4"))


@dataclass
class RolloutState:
    """Finished answers of one rollout, with their rewards and scores, merged from all generations' files.

    Each generation, and each of its ranks, writes its own files, so a rank that was frozen and resumes
    changes nothing that another has written. Copies of an answer may differ in their last bits, if layouts
    do: the newest generation's counts, as others may have continued from it, and rewards and scores of
    another copy do not.
    """

    samples: dict[SampleKey, SampleRecord] = field(default_factory=dict)
    rewards: dict[SampleKey, dict[str, float | str]] = field(default_factory=dict)
    scores: dict[tuple[str, SampleKey], Float32s] = field(default_factory=dict)  # by model and answer
    unsettled: list[RewardsRecord] = field(default_factory=list)  # of `rewards`, what no file holds

    def add(self, records: Iterable[Record]) -> None:
        """Add finished records; rewards and scores must be of known answers."""
        for record in records:
            if isinstance(record, SampleRecord):
                self.samples[record.key] = record
            elif isinstance(record, RewardsRecord):
                self.rewards.setdefault(record.key, {}).update(record.values)
                if not record.settled:
                    self.unsettled.append(record)
            else:
                self.scores[record.name, record.key] = record.values


@dataclass(frozen=True)
class CollectedRollout:
    """Answers of all ranks with their rewards, equal on every rank."""

    step: int  # after which it began
    first: int  # place of its first prompt
    asked: int  # groups in all
    places: Sequence[int]  # of the prompts whose groups are trained on
    drawn: int  # answers that were drawn just now; the others are from before a restart
    kept: RolloutState
    sums: Mapping[SampleKey, Outcome]
    weights: Mapping[str, float] = field(default_factory=dict)  # of each reward in the sums, by name

    def keys(self, group: int) -> list[list[SampleKey]]:
        """Return keys of the answers to train on; each inner list is a group of siblings."""
        return [[SampleKey(self.step, place, sibling) for sibling in range(group)] for place in self.places]


def merge_records(files: Mapping[GenerationId, Iterable[Record]]) -> RolloutState:
    """Merge the records of each generation's files, with one copy of each answer."""
    kept = RolloutState()
    ordered = sorted(files, key=lambda generation: (generation.epoch, generation.number))
    records = [record for generation in ordered for record in files[generation]]
    kept.add(record for record in records if isinstance(record, SampleRecord))
    marks = {key: sample.mark for key, sample in kept.samples.items()}
    kept.add(
        record
        for record in records
        if isinstance(record, RewardsRecord | ScoresRecord) and marks.get(record.key) == record.mark
    )
    return kept
