"""SentencePiece models as tokenizer.json, the one format beside all shards.

All readers of a checkpoint (generate, export, transformers) read tokenizer.json. A SentencePiece model is
therefore rebuilt from the parts of the tokenizers library: its normaliser, then Viterbi over scored pieces
(unigram) or merges in the order of the scores (BPE), with no splitting into words before. While packing, the
start of the corpus is encoded by SentencePiece itself as well, and a difference is refused: shards hold the
ids of the model's own library.

Models trained here preserve every byte of a text: no Unicode normalisation, no invented space, bytes for
unseen characters.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

import sentencepiece
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # ships no types
from sentencepiece import sentencepiece_model_pb2 as protobuf
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

SPACE: Final = "▁"
_NORMAL: Final = 1  # ModelProto.SentencePiece.Type
_CONTROL: Final = 3
_USER_DEFINED: Final = 4
_UNIGRAM, _BPE = 1, 2  # TrainerSpec.ModelType
# Score of pieces that no text may become: worse than any way through other pieces.
_NEVER: Final = -1e6
# The trainer's sums depend on the number of threads, and its bytes shall not depend on the machine.
_THREADS: Final = 16

Encode = Callable[[list[str]], list[list[int]]]


def learn_model(texts: Iterable[str], vocabulary_size: int, special: list[str]) -> bytes:
    """Train a unigram model with at most `vocabulary_size` ids, the first of them `special`.

    The first four of `special` are pad, bos, eos and unk. ValueError when the texts do not yield a model.
    """
    out = io.BytesIO()
    lines = (line for text in texts for line in text.splitlines(keepends=True) if line)
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=lines,
            model_writer=out,
            model_type="unigram",
            vocab_size=vocabulary_size,
            hard_vocab_limit=False,
            byte_fallback=True,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            add_dummy_prefix=False,
            allow_whitespace_only_pieces=True,
            max_sentence_length=1 << 16,
            num_threads=_THREADS,
            minloglevel=2,
            pad_id=0,
            bos_id=1,
            eos_id=2,
            unk_id=3,
            pad_piece=special[0],
            bos_piece=special[1],
            eos_piece=special[2],
            unk_piece=special[3],
            control_symbols=special[4:],
            required_chars="".join(sorted(set("".join(special)))),
        )
    except (RuntimeError, OSError) as error:
        raise ValueError(
            f"--vocabulary-size {vocabulary_size}: SentencePiece cannot train a model on this text ({error})"
        ) from None
    return out.getvalue()


def read_model(path: Path) -> tuple[Tokenizer, Encode]:
    """Return the tokenizer of a model file, and SentencePiece's own function that encodes texts.

    ValueError when the file is no model, or a model of words or characters.
    """
    try:
        return from_model(path.read_bytes())
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"--tokenizer {path}: {error}") from None


def from_model(content: bytes) -> tuple[Tokenizer, Encode]:
    """Return the same as read_model, from a model's bytes."""
    model = protobuf.ModelProto()  # type: ignore[attr-defined]  # made at run time
    try:
        model.ParseFromString(content)
        processor = sentencepiece.SentencePieceProcessor(model_proto=content)
    except (DecodeError, RuntimeError) as error:
        raise ValueError(f"is not a SentencePiece model: {error}") from None
    tokenizer = Tokenizer(_pieces(model))
    steps = _normalizer(model.normalizer_spec)
    if steps is not None:
        tokenizer.normalizer = steps
    guard = _guard(model)
    if guard is not None:
        tokenizer.pre_tokenizer = guard
    tokenizer.decoder = _decoder(model)
    tokenizer.add_special_tokens(_added(model, _CONTROL))
    tokenizer.add_tokens(_added(model, _USER_DEFINED))
    return tokenizer, lambda texts: processor.encode(texts, out_type=int)


def _added(model: Any, kind: int) -> list[AddedToken]:
    pieces = (entry.piece for entry in model.pieces if entry.type == kind)
    return [AddedToken(piece, special=kind == _CONTROL, normalized=False) for piece in pieces]


def _pieces(model: Any) -> models.Model:
    trained, pieces = model.trainer_spec, model.pieces
    if trained.model_type == _UNIGRAM:
        scored = [(entry.piece, entry.score if entry.type == _NORMAL else _NEVER) for entry in pieces]
        return models.Unigram(scored, unk_id=trained.unk_id, byte_fallback=trained.byte_fallback)
    if trained.model_type == _BPE:
        return models.BPE(
            {entry.piece: number for number, entry in enumerate(pieces)},
            _merges({entry.piece: entry.score for entry in pieces if entry.type == _NORMAL}),
            unk_token=pieces[trained.unk_id].piece,
            fuse_unk=True,
            byte_fallback=trained.byte_fallback,
        )
    raise ValueError("is a SentencePiece model of words or characters; use a unigram or BPE model")


def _guard(model: Any) -> pre_tokenizers.PreTokenizer | None:
    """Return a splitter that cuts "</s>" in a text where the unigram model would find the special piece.

    _NEVER prevents text from becoming such a piece as long as each letter is a piece as well. If one is not,
    the only way past it scores worse still: there the text is cut beside that letter.
    """
    if model.trainer_spec.model_type != _UNIGRAM:
        return None
    letters = {entry.piece for entry in model.pieces if entry.type == _NORMAL and len(entry.piece) == 1}
    cuts = []
    for entry in model.pieces:
        unknown = [place for place, letter in enumerate(entry.piece) if letter not in letters]
        if entry.type not in (_NORMAL, _USER_DEFINED) and unknown:
            cut = max(1, min(unknown[0] + 1, len(entry.piece) - 1))
            cuts.append(f"(?<={re.escape(entry.piece[:cut])})(?={re.escape(entry.piece[cut:])})")
    return pre_tokenizers.Split(Regex("|".join(cuts)), "isolated") if cuts else None


def _merges(scores: dict[str, float]) -> list[tuple[str, str]]:
    """Return every pair of pieces that joins into another, the best piece first."""
    found = [
        (score, piece[:cut], piece[cut:])
        for piece, score in scores.items()
        for cut in range(1, len(piece))
        if piece[:cut] in scores and piece[cut:] in scores
    ]
    # Python's sort is stable: of one piece the cuts stay in the order of their halves' scores.
    found.sort(key=lambda one: (scores[one[1]], scores[one[2]]), reverse=True)
    found.sort(key=lambda one: one[0], reverse=True)
    return [(left, right) for _, left, right in found]


def _normalizer(spec: Any) -> normalizers.Normalizer | None:
    steps: list[normalizers.Normalizer] = []
    if spec.precompiled_charsmap:
        steps.append(normalizers.Precompiled(spec.precompiled_charsmap))
    if spec.remove_extra_whitespaces:
        steps += [normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")]
    if spec.add_dummy_prefix:
        steps.append(normalizers.Prepend(SPACE))
    if spec.escape_whitespaces:
        steps.append(normalizers.Replace(" ", SPACE))
    return normalizers.Sequence(steps) if steps else None


def _decoder(model: Any) -> decoders.Decoder:
    steps: list[decoders.Decoder] = [decoders.Replace(SPACE, " ")]
    if model.trainer_spec.byte_fallback:
        steps.append(decoders.ByteFallback())
    steps.append(decoders.Fuse())
    if model.normalizer_spec.add_dummy_prefix:
        steps.append(decoders.Strip(content=" ", left=1))
    return decoders.Sequence(steps)
