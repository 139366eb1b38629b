"""The tokenizer beside the shards: trained here, or given by the user.

Special tokens must have ids that no text encodes to, inside the vocabulary the model was sized for. They
cannot be added later without changing the model's shape, so a trained vocabulary has all that any stage may
need. A given vocabulary belongs to a model whose embedding ends with it: it retains its ids, and gets others
only on request. From any source (tokenizer.json, a SentencePiece model, tiktoken ranks), the file beside the
shards is a tokenizer.json. Text that merely spells a special token ("<eos>" in a manual) is encoded as
ordinary text.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from footplate_planning.span_corruption import SENTINELS
from footplate_trainer.data.layout import ALIASES, SpecialIds, SpecialTokenRole
from footplate_trainer.data.tokenizer_json import parse_tokenizer

T = TypeVar("T")
Encode = Callable[[list[str]], list[list[int]]]

ALPHABET: Final = 256  # one id for each byte, so that nothing is unknown
RESERVED: Final = len(ALIASES) + SENTINELS
SMALLEST: Final = RESERVED + ALPHABET
# Characters: while a text is split into words, the library takes about 100 bytes for each.
PIECE: Final = 1 << 16
_GROUP: Final = 1 << 22  # characters encoded in one call, shared out among all cores
_PROVEN: Final = 1 << 22  # characters


@dataclass
class ConversionCheck:
    """A comparison of a converted tokenizer with its own library, on the text that is packed.

    Only trials distinguish a conversion that is right for every text from one that is nearly right. So both
    encode the first megabytes, and the first text with different ids stops the packing.
    """

    origin: str  # what a person knows the tokenizer by
    reference: Encode
    left: int = _PROVEN  # characters to compare yet

    def check(self, texts: Sequence[str], ids: Sequence[Sequence[int]]) -> None:
        """Raise ValueError for the first text whose `ids` differ from the reference's."""
        for text, ours in zip(texts, ids, strict=True):
            if self.left <= 0:
                return
            self.left -= len(text)
            [theirs] = self.reference([text])
            # Two ways of equal score through a row of equal signs differ in their order only.
            if list(ours) != theirs and sorted(ours) != sorted(theirs):
                raise ValueError(self._difference(text, ours, theirs))

    def _difference(self, text: str, ours: Sequence[int], theirs: Sequence[int]) -> str:
        pairs = zip(ours, theirs, strict=False)
        place = next(
            (n for n, (mine, other) in enumerate(pairs) if mine != other), min(len(ours), len(theirs))
        )
        return (
            f"--tokenizer {self.origin} cannot be converted to tokenizer.json: the text starting with "
            f"{text[:40]!r} differs at token {place}: {list(ours[place : place + 4])} instead of "
            f"{list(theirs[place : place + 4])}; use a tokenizer.json"
        )


@dataclass(frozen=True)
class PackTokenizer:
    """A tokenizer with the ids that no text encodes to."""

    tokenizer: Tokenizer
    special: SpecialIds
    vocabulary_size: int  # largest id + 1
    proof: ConversionCheck | None = None  # of a tokenizer that was not a tokenizer.json

    def encode(
        self, texts: Sequence[str], advance: Callable[[int], None] | None = None
    ) -> list[NDArray[np.uint32]]:
        """Return the ids of each text, without special ones: uint32 [tokens]; in parallel over all cores.

        Calls `advance` with the UTF-8 bytes of each part that is done.
        """
        pieces = [list(split_text(text)) for text in texts]
        encoded = self._encode_pieces(itertools.chain.from_iterable(pieces), advance)
        return [np.concatenate([next(encoded) for _ in parts]) for parts in pieces]

    def _encode_pieces(
        self, pieces: Iterable[str], advance: Callable[[int], None] | None
    ) -> Iterator[NDArray[np.uint32]]:
        for group in batch_by_size(pieces, _GROUP, size=len):
            encodings = self.tokenizer.encode_batch_fast(group, add_special_tokens=False)
            if self.proof is not None:
                self.proof.check(group, [encoding.ids for encoding in encodings])
            if advance is not None:
                advance(sum(len(piece.encode()) for piece in group))
            for encoding in encodings:
                yield np.array(encoding.ids, dtype=np.uint32)

    def to_json(self) -> str:
        """Return the text of tokenizer.json."""
        return self.tokenizer.to_str(pretty=True)


def learn(texts: Iterable[str], vocabulary_size: int) -> PackTokenizer:
    """Train a byte-level BPE with special tokens first; ValueError if `vocabulary_size` is too small."""
    _check_room(vocabulary_size)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        min_frequency=2,
        special_tokens=[names[0] for names in _names()],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=sys.stderr.isatty(),
    )
    tokenizer.train_from_iterator(texts, trainer)
    return _ready(tokenizer)


def learn_sentencepiece(texts: Iterable[str], vocabulary_size: int) -> PackTokenizer:
    """Train a SentencePiece unigram model with at most `vocabulary_size` ids; ValueError if too few."""
    from footplate_trainer.data.sentencepiece_model import from_model, learn_model

    _check_room(vocabulary_size)
    content = learn_model(texts, vocabulary_size, [names[0] for names in _names()])
    return _ready(from_model(content)[0])


def load(
    path: Path,
    vocabulary_size: int | None = None,
    *,
    reserve: Collection[SpecialTokenRole] = (),
    named: Mapping[SpecialTokenRole, str] = MappingProxyType({}),
    said: Mapping[SpecialTokenRole, str] = MappingProxyType({}),
) -> PackTokenizer:
    """Load the tokenizer in a file, with its own ids, followed by tokens for the missing roles in `reserve`.

    The file is a tokenizer.json, a SentencePiece .model, a .tiktoken ranks file or a tekken.json, by its
    name. `named` names the token of a role where it has none of the usual names; so does `said`, from files
    beside it, which may name tokens that it does not have. ValueError when the file is none of these, lacks a
    token of `named`, or needs more than `vocabulary_size` ids.
    """
    if not path.is_file():
        raise ValueError(f"--tokenizer {path}: no such file; use a tokenizer.json, .model or .tiktoken file")
    tokenizer, proof = _read(path)
    # Both would change what a document's tokens are.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    known = tokenizer.get_vocab(with_added_tokens=True)
    for role, name in named.items():
        if name not in known:
            raise ValueError(f"--special-token {role}={name}: {path} has no such token")
    named = {role: name for role, name in said.items() if name in known} | dict(named)
    wanted = [
        names for role in SpecialTokenRole if role in reserve and role not in named for names in _names(role)
    ]
    missing = [names[0] for names in wanted if not any(name in known for name in names)]
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in missing])
    ready = _ready(tokenizer, proof, named)
    if vocabulary_size is not None and ready.vocabulary_size > vocabulary_size:
        added = f" and the {len(missing)} that --reserve adds" if missing else ""
        raise ValueError(
            f"--vocabulary-size {vocabulary_size} is too small for {path}: its {len(known)} ids{added} need "
            f"{ready.vocabulary_size}; pass that, or remove --vocabulary-size"
        )
    return ready


def _read(path: Path) -> tuple[Tokenizer, ConversionCheck | None]:
    if path.suffix == ".tiktoken" or path.stem.startswith("tekken"):
        from footplate_trainer.data.tiktoken_ranks import read_ranks, read_tekken

        tokenizer, reference = (read_ranks if path.suffix == ".tiktoken" else read_tekken)(path)
        return tokenizer, ConversionCheck(str(path), reference)
    if ".model" in path.suffixes:  # also tokenizer.model.v3
        from footplate_trainer.data.sentencepiece_model import read_model

        tokenizer, reference = read_model(path)
        return tokenizer, ConversionCheck(str(path), reference)
    try:
        return parse_tokenizer(path.read_bytes()), None
    except (OSError, ValueError) as error:
        raise ValueError(f"--tokenizer {path} is not a tokenizer.json: {error}") from None


def _check_room(vocabulary_size: int) -> None:
    if vocabulary_size < SMALLEST:
        raise ValueError(
            f"--vocabulary-size {vocabulary_size} is too small: {RESERVED} special tokens and {ALPHABET} "
            f"bytes need {SMALLEST} ids before the first merge; pass {SMALLEST} or more"
        )


def _names(*roles: SpecialTokenRole) -> list[tuple[str, ...]]:
    """Return the possible names of each token of `roles`, or of all, in the order of reserved ids."""
    sentinels = [(f"<extra_id_{index}>",) for index in range(SENTINELS)]
    return [
        names
        for role in roles or SpecialTokenRole
        for names in (sentinels if role is SpecialTokenRole.SENTINELS else [ALIASES[role]])
    ]


def _ready(
    tokenizer: Tokenizer,
    proof: ConversionCheck | None = None,
    named: Mapping[SpecialTokenRole, str] = MappingProxyType({}),
) -> PackTokenizer:
    # Text is data: what looks like a special token in it is not one.
    tokenizer.encode_special_tokens = True
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)

    def ids(role: SpecialTokenRole) -> list[int]:
        wanted = [(named[role],)] if role in named else _names(role)
        found = [next((vocabulary[name] for name in names if name in vocabulary), None) for names in wanted]
        present = [token for token in found if token is not None]
        return present if len(present) == len(wanted) else []  # some sentinels are as good as none

    single = {
        role: found[0]
        for role in SpecialTokenRole
        if role is not SpecialTokenRole.SENTINELS and (found := ids(role))
    }
    special = SpecialIds(
        **single,
        sentinels=ids(SpecialTokenRole.SENTINELS),
        # A BERT has no other word for an end.
        ends=[single[SpecialTokenRole.SEP]]
        if SpecialTokenRole.EOS not in single and SpecialTokenRole.SEP in single
        else None,
    )
    return PackTokenizer(tokenizer, special, max(vocabulary.values()) + 1, proof)


def split_text(text: str, limit: int = PIECE) -> Iterator[str]:
    """Split `text` into parts of at most `limit` characters, after a line end where there is one."""
    start = 0
    while len(text) - start > limit:
        cut = text.rfind("\n", start, start + limit) + 1
        cut = cut if cut > start else start + limit
        yield text[start:cut]
        start = cut
    yield text[start:]


def batch_by_size(items: Iterable[T], limit: int, size: Callable[[T], int]) -> Iterator[list[T]]:
    """Yield lists of items with about `limit` of `size` together, each of at least one item."""
    group: list[T] = []
    held = 0
    for item in items:
        if group and held + size(item) > limit:
            yield group
            group, held = [], 0
        group.append(item)
        held += size(item)
    if group:
        yield group
