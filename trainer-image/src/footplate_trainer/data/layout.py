"""Files of a folder of token shards, as written by `pack` and read by ranks.

    manifest.json         this model; written last
    tokenizer.json        Hugging Face tokenizers format
    shard-00000.bin       tokens, little-endian unsigned, no header
    shard-00000.offsets   documents + 1 little-endian uint64: where each document starts, and the end
    shard-00000.values    documents little-endian float32, in formats that have a number for each

A shard holds whole documents, so a document is a slice of one file and the shards
in order are one stream of tokens. In format pairs a query and its positive are two
consecutive documents, the first pair being 0 and 1; in format preferences the chosen
and the rejected answer are. Texts end with their tokenizer's end of text. Conversations
rendered by a chat template (chat, preferences, ratings, prompts) end as the template
writes them, and have beside them

    chat_template.jinja           the template, if one was applied
    shard-00000.learnt            a bit for each token, lowest bit first: 1 if it is learnt
    shard-00000.prompts           documents little-endian uint32: tokens before the answer's first
    shard-00000.columns           a JSON object for each sample, one after the other
    shard-00000.columns-offsets   samples + 1 little-endian uint64: where each object starts, and the end

Format prompts has no learnt and no prompts, and always columns. Format chat has columns if its answers were
rewarded, and format preferences if its rows have several raters.

Nothing here imports numpy: an agent reads a manifest before any slow import.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum
from typing import Annotated, Final, Self

from pydantic import Field, model_validator

from footplate_contracts.base import Contract
from footplate_contracts.v1alpha1.data import LossMask, OverlongPolicy
from footplate_planning.span_corruption import SENTINELS

# Name of ours first, then what well-known tokenizers call it: the first that exists is used.
ALIASES: Final[dict[str, tuple[str, ...]]] = {
    "pad": ("<pad>", "[PAD]", "<|pad|>"),
    "bos": ("<bos>", "<s>", "<|begin_of_text|>"),
    "eos": ("<eos>", "</s>", "<|end_of_text|>", "<|endoftext|>"),
    "unk": ("<unk>", "[UNK]"),
    "cls": ("<cls>", "[CLS]"),
    "sep": ("<sep>", "[SEP]"),
    "mask": ("<mask>", "[MASK]"),
}


SCHEMA_VERSION: Final = 1
MANIFEST_FILE: Final = "manifest.json"
TOKENIZER_FILE: Final = "tokenizer.json"
TEMPLATE_FILE: Final = "chat_template.jinja"
VALUE_BYTES: Final = 4
PROMPT_BYTES: Final = 4
OFFSET_BYTES: Final = 8


class TokenType(StrEnum):
    """The integer type of a stored token."""

    UINT16 = "uint16"
    UINT32 = "uint32"


class RecordKind(StrEnum):
    """The kind of record in the packed text."""

    TOKENS = "tokens"  # a text
    PAIRS = "pairs"  # a query and the text that answers it
    REGRESSION = "regression"  # a text and a number
    CHAT = "chat"  # a conversation
    PREFERENCES = "preferences"  # two answers to one prompt, the better one first
    RATINGS = "ratings"  # an answer, and whether it is good
    PROMPTS = "prompts"  # a prompt, and what scores its answers

    @property
    def is_conversational(self) -> bool:
        """True if its records are conversations with learnt parts."""
        return self in _CONVERSATIONS

    @property
    def documents_per_sample(self) -> int:
        """The number of consecutive documents in a sample."""
        return 2 if self in (RecordKind.PAIRS, RecordKind.PREFERENCES) else 1


_CONVERSATIONS: Final = frozenset(
    (RecordKind.CHAT, RecordKind.PREFERENCES, RecordKind.RATINGS, RecordKind.PROMPTS)
)


def token_type_for(vocabulary_size: int) -> TokenType:
    """Return the narrowest type that holds ids 0 … vocabulary_size - 1."""
    return TokenType.UINT16 if vocabulary_size <= 1 << 16 else TokenType.UINT32


# A manifest names files of its own folder and no others.
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=255)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0)]


class DataFile(Contract):
    """A file beside the manifest, with its size and checksum."""

    file: FileName
    bytes: Count
    sha256: Sha256


class ShardRecord(DataFile):
    """A token file and its document offsets."""

    tokens: Count
    documents: Count
    offsets: DataFile
    values: DataFile | None = None
    learnt: DataFile | None = None
    prompts: DataFile | None = None
    columns: DataFile | None = None
    columns_offsets: DataFile | None = None

    def files(self) -> list[DataFile]:
        """Return all files of this shard."""
        beside = (self.values, self.learnt, self.prompts, self.columns, self.columns_offsets)
        return [self, self.offsets, *(file for file in beside if file is not None)]


class SourceRecord(Contract):
    """Counts of one INPUT of `pack`."""

    input: str
    documents: Count
    bytes: Count = Field(description="UTF-8 bytes of the documents' text")
    skipped: Count = Field(description="files or records that were binary, not UTF-8 or empty")


class SamplesRecord(Contract):
    """The options that turned conversations into samples, and counts of rows without one."""

    template: DataFile | None = Field(default=None, description="chat template; absent if none")
    date: str | None = Field(default=None, description="date passed to a template that uses one")
    mask: LossMask | None = Field(default=None, description="tokens that are trained on; absent if none")
    context_length: int | None = Field(default=None, ge=1, description="maximum tokens of a sample")
    overlong: OverlongPolicy
    cut: Count = Field(description="number of samples truncated after a turn")
    dropped: dict[str, Count] = Field(description="number of rows without a sample, by reason")
    turn_end: list[Count] | None = Field(
        None,
        description="ids that the template writes from an answer's end on, for prompts; absent without a "
        "template, or if packed by an earlier release",
    )


class GeneratedRecord(Contract):
    """The origin of generated answers: the run of stage generate and its models and prompts."""

    run: str
    uid: str
    weights: str = Field(description="checksum of the weights that answered, in 16 hex digits, of any layout")
    weights_from: str | None = Field(None, description="checkpoint of initFrom; absent if untrained")
    weights_step: Count | None = Field(None, description="step of that checkpoint; absent if not from a run")
    reward: str | None = Field(None, description="checksum of the reward model's weights, if any")
    reward_configuration: str | None = Field(
        None, description="digest of what else determines its rewards, from config.json and heldOut"
    )
    reward_from: str | None = Field(None, description="folder or checkpoint of the reward model")
    reward_step: Count | None = Field(None, description="step of that checkpoint; absent if not from a run")
    prompts: str = Field(description="digest of the prompts' shards")
    prompts_from: list[str] = Field(description="URIs of the prompts")
    rollouts: Count | None = Field(None, description="number of rollouts; absent in earlier releases")


class SpecialTokenRole(StrEnum):
    """The purpose of a special token."""

    PAD = "pad"
    BOS = "bos"
    EOS = "eos"
    UNK = "unk"
    CLS = "cls"
    SEP = "sep"
    MASK = "mask"
    SENTINELS = "sentinels"


class SpecialIds(Contract):
    """Ids that no text encodes to; an id that the tokenizer lacks is absent."""

    pad: Count | None = None
    bos: Count | None = None
    eos: Count | None = None
    unk: Count | None = None
    cls: Count | None = None
    sep: Count | None = None
    mask: Count | None = None
    sentinels: list[Count] = Field(
        default_factory=list, description=f"{SENTINELS} in the order of their use, or none"
    )
    ends: list[Count] | None = Field(
        None, min_length=1, description="ids that end a text; absent if only eos does"
    )

    def of(self, role: SpecialTokenRole) -> list[int]:
        """Return the ids of `role`; empty where it has none."""
        if role is SpecialTokenRole.SENTINELS:
            return self.sentinels
        found: int | None = getattr(self, role)
        return [] if found is None else [found]

    def all(self) -> list[int]:
        """Return every reserved id once: those of the roles in their order, then other ends."""
        named = [token for role in SpecialTokenRole for token in self.of(role)]
        return list(dict.fromkeys([*named, *(self.ends or ())]))

    @property
    def padding(self) -> int:
        """The id that fills a sequence after its text: pad, or else 0.

        Any id would do: padding is recognised by its document's number, and never by the id itself. That id
        may end a text too, so no code may search for it to find where a text ends.
        """
        return 0 if self.pad is None else self.pad

    @property
    def end(self) -> int | None:
        """The id that ends a document: eos, or else the first of `ends`; None without either."""
        return self.ends[0] if self.eos is None and self.ends else self.eos

    @model_validator(mode="after")
    def _all_sentinels_or_none(self) -> Self:
        if self.sentinels and len(self.sentinels) != SENTINELS:
            raise ValueError(f"there are {len(self.sentinels)} sentinels; must be {SENTINELS} or none")
        return self


class ShardManifest(Contract):
    """The content of manifest.json."""

    schema_version: int = SCHEMA_VERSION
    format: RecordKind = RecordKind.TOKENS
    dtype: TokenType
    vocabulary_size: int = Field(ge=1, description="largest token id + 1")
    special_ids: SpecialIds
    tokenizer: DataFile
    shards: list[ShardRecord]
    tokens: Count
    documents: Count
    sources: list[SourceRecord]
    seed: int
    samples: SamplesRecord | None = Field(default=None, description="record of packed conversations")
    generated: GeneratedRecord | None = Field(default=None, description="record of a run's generated answers")

    @property
    def digest(self) -> str:
        """A digest that is equal for equal tokens in equal shards, at any URI: 16 hex digits of SHA-256.

        Checkpoints compare it, so its definition stays as it was, and values have `values_digest`. Of
        conversations it covers all files of a shard, values among them.
        """
        whole = self.format.is_conversational
        files = (shard.files() if whole else [shard, shard.offsets] for shard in self.shards)
        return _digest([file.sha256 for found in files for file in found])

    @property
    def values_digest(self) -> str:
        """A digest of the values beside the documents of all shards, as `digest` is of tokens."""
        return _digest([shard.values.sha256 for shard in self.shards if shard.values])

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.schema_version != SCHEMA_VERSION:
            raise ValueError(f"schemaVersion is {self.schema_version}; this release reads {SCHEMA_VERSION}")
        if self.dtype != token_type_for(self.vocabulary_size):
            raise ValueError(f"dtype {self.dtype} does not match vocabularySize {self.vocabulary_size}")
        if max(self.special_ids.all(), default=0) >= self.vocabulary_size:
            raise ValueError(f"a special id is outside vocabularySize {self.vocabulary_size}")
        for name in ("tokens", "documents"):
            found = sum(getattr(shard, name) for shard in self.shards)
            if found != getattr(self, name):
                raise ValueError(f"{name} is {getattr(self, name)}, but the shards' sum is {found}")
        return self

    @model_validator(mode="after")
    def _as_its_format_asks(self) -> Self:
        if self.documents % self.format.documents_per_sample:
            raise ValueError(f"format {self.format} with {self.documents} documents: one has no pair")
        if (self.samples is not None) != self.format.is_conversational:
            raise ValueError(f"format {self.format} does not match its samples")
        if len({shard.values is None for shard in self.shards}) > 1:
            raise ValueError("some shards have values and some have none")
        for shard in self.shards:
            for name, sizes in self._sizes(shard).items():
                file: DataFile | None = getattr(shard, name)
                if (file.bytes if file else None) not in sizes:
                    raise ValueError(f"{shard.file}: format {self.format} does not match its {name}")
            if (shard.columns is None) != (shard.columns_offsets is None):
                raise ValueError(f"{shard.file}: columns and columnsOffsets must be set together")
        return self

    def _sizes(self, shard: ShardRecord) -> dict[str, tuple[int | None, ...]]:
        """Return the allowed sizes in bytes of each file beside a shard's tokens; None: it may be absent."""
        documents, samples = shard.documents, shard.documents // self.format.documents_per_sample
        values, columns = VALUE_BYTES * documents, OFFSET_BYTES * (samples + 1)
        answered = self.format.is_conversational and self.format is not RecordKind.PROMPTS
        return {
            "values": {
                RecordKind.REGRESSION: (values,),
                RecordKind.RATINGS: (values,),
                RecordKind.PREFERENCES: (None, values),
            }.get(self.format, (None,)),
            "learnt": ((shard.tokens + 7) // 8,) if answered else (None,),
            "prompts": (PROMPT_BYTES * documents,) if answered else (None,),
            "columns_offsets": {
                RecordKind.PROMPTS: (columns,),
                RecordKind.PREFERENCES: (None, columns),
                RecordKind.CHAT: (None, columns),
            }.get(self.format, (None,)),
        }

    def files(self) -> list[DataFile]:
        """Return every file that this manifest lists."""
        template = self.samples.template if self.samples else None
        beside = [self.tokenizer, *([template] if template else [])]
        return [*(file for shard in self.shards for file in shard.files()), *beside]


def _digest(sums: list[str]) -> str:
    return hashlib.sha256("".join(sums).encode()).hexdigest()[:16]
