"""SentencePiece and tiktoken vocabularies, read as their own libraries read them."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterable
from pathlib import Path
from pydoc_data.topics import topics

import pytest
import sentencepiece
import tiktoken
from tokenizers import Tokenizer

from footplate_trainer.data import sentencepiece_model, tiktoken_ranks, tokenizer
from footplate_trainer.data.layout import SpecialIds, SpecialTokenRole
from footplate_trainer.data.pack import TokenizerKind, pack
from footplate_trainer.data.shards import TokenShards
from footplate_trainer.data.tokenizer import RESERVED, ConversionCheck

TEXTS = [topics[name] for name in ("assert", "lambda", "strings", "yield")]
ODD = [
    "naïve 日本語 🦊 \x00\x7f",
    "  two  spaces \n\n\n tabs\t\t",
    "<s> </s> <unk> <0x0A> <eos> <extra_id_0>",
    "ﬁ ｈａｌｆ ² é",
    "",
    " ",
    "\r\n a\r\n",
    "don't DON'T I'LL 12345 1,000",
]


def trained(**options: object) -> bytes:
    """A SentencePiece model of 400 pieces."""
    out = io.BytesIO()
    lines: Iterable[str] = (line for text in TEXTS for line in text.splitlines() if line)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=lines, model_writer=out, vocab_size=400, minloglevel=2, num_threads=1, **options
    )
    return out.getvalue()


@pytest.fixture(scope="module")
def ranks() -> dict[bytes, int]:
    """The 256 bytes and 300 merges, as tiktoken keeps them."""
    letters = {letter: byte for byte, letter in tiktoken_ranks._byte_letters().items()}
    own = tokenizer.learn(TEXTS, tokenizer.SMALLEST + 300).tokenizer
    by_id = sorted(own.get_vocab(with_added_tokens=False).items(), key=lambda item: item[1])
    spelled = [name for name, number in by_id if number >= RESERVED]
    return {bytes(letters[letter] for letter in name): rank for rank, name in enumerate(spelled)}


def write_ranks(ranks: dict[bytes, int], path: Path) -> Path:
    lines = (b"%s %d\n" % (base64.b64encode(token), rank) for token, rank in ranks.items())
    path.write_bytes(b"".join(lines))
    return path


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="unigram"),
        pytest.param({"model_type": "bpe"}, id="bpe"),
        pytest.param({"model_type": "bpe", "byte_fallback": True}, id="bpe-bytes"),
        pytest.param(
            {"normalization_rule_name": "identity", "remove_extra_whitespaces": False}, id="spaces-kept"
        ),
        pytest.param({"add_dummy_prefix": False, "byte_fallback": True}, id="no-prefix"),
    ],
)
def test_a_sentencepiece_model_reads_as_in_its_library(options: dict[str, object]) -> None:
    ours, reference = sentencepiece_model.from_model(trained(**options))
    ours.encode_special_tokens = True
    texts = [*TEXTS, *ODD]
    # As packing does: ways of equal score through a row of spaces may differ in their order.
    ConversionCheck("model", reference).check(
        texts, [ours.encode(text, add_special_tokens=False).ids for text in texts]
    )


@pytest.mark.parametrize("name", ["gpt2", "cl100k_base", "o200k_base"])
def test_ranks_read_as_in_their_library(ranks: dict[bytes, int], name: str) -> None:
    pattern = tiktoken_ranks.ENCODINGS[name].pattern
    reference = tiktoken.Encoding(name, pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    ours = tiktoken_ranks.from_ranks(ranks, tiktoken_ranks.Encoding(pattern))
    for text in [*TEXTS, *ODD]:
        ids = ours.encode(text, add_special_tokens=False).ids
        assert ids == reference.encode_ordinary(text)
        assert ours.decode(ids) == text


def test_special_ids_of_an_encoding_stay_and_ours_come_behind_when_asked_for(
    ranks: dict[bytes, int], tmp_path: Path
) -> None:
    path = write_ranks(ranks, tmp_path / "gpt2.tiktoken")
    alone = tokenizer.load(path)
    assert (alone.special, alone.vocabulary_size) == (SpecialIds(eos=50256), 50257)
    ours = tokenizer.load(path, 60_000, reserve=list(SpecialTokenRole))
    assert ours.special.eos == 50256 == ours.tokenizer.token_to_id("<|endoftext|>")
    others = sorted(set(ours.special.all()) - {50256})
    assert others == list(range(50257, 50257 + RESERVED - 1))
    assert ours.vocabulary_size == 50257 + RESERVED - 1


def test_a_tekken_file_reads_with_its_special_ids_in_front(ranks: dict[bytes, int], tmp_path: Path) -> None:
    pattern = tiktoken_ranks.ENCODINGS["o200k_base"].pattern
    spare = len(ranks) - 20  # the file holds more than the vocabulary takes
    config = {"pattern": pattern, "default_vocab_size": spare + 10, "default_num_special_tokens": 10}
    tokens = [
        {"rank": rank, "token_bytes": base64.b64encode(token).decode()} for token, rank in ranks.items()
    ]
    (tmp_path / "tekken.json").write_text(json.dumps({"config": config, "vocab": tokens}))
    ours = tokenizer.load(tmp_path / "tekken.json", 1000)
    assert ours.special == SpecialIds(unk=0, bos=1, eos=2)
    assert ours.vocabulary_size == spare + 10
    fewer = {token: rank for token, rank in ranks.items() if rank < spare}
    reference = tiktoken.Encoding("t", pat_str=pattern, mergeable_ranks=fewer, special_tokens={})
    for text in [*TEXTS, *ODD]:
        [ids] = ours.encode([text])
        assert ids.tolist() == [rank + 10 for rank in reference.encode_ordinary(text)]


@pytest.mark.parametrize("reserve", [[], list(SpecialTokenRole)], ids=["alone", "reserved"])
def test_special_pieces_of_a_model_are_used_and_the_rest_added_when_asked_for(
    tmp_path: Path, reserve: list[SpecialTokenRole]
) -> None:
    (tmp_path / "a.model").write_bytes(trained())
    ours = tokenizer.load(tmp_path / "a.model", 1000, reserve=reserve)
    assert (ours.special.unk, ours.special.bos, ours.special.eos) == (0, 1, 2)
    assert ours.vocabulary_size == 400 + (RESERVED - 3 if reserve else 0)
    [ids] = ours.encode(["<s> </s> <pad>"])
    assert not set(ids.tolist()) & (set(ours.special.all()) - {ours.special.unk})


def test_a_learned_model_keeps_every_byte_and_reserves_the_first_ids() -> None:
    ours = tokenizer.learn_sentencepiece(TEXTS, 600)
    assert sorted(ours.special.all()) == list(range(RESERVED)) and ours.vocabulary_size <= 600
    for text in [*TEXTS, *ODD]:
        [ids] = ours.encode([text])
        assert ours.tokenizer.decode(ids.tolist(), skip_special_tokens=False) == text
        assert not set(ids.tolist()) & set(ours.special.all())


def test_learning_twice_gives_the_same_bytes() -> None:
    first, second = (tokenizer.learn_sentencepiece(TEXTS, 500).to_json() for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        pytest.param("x.model", b"nonsense", "is not a SentencePiece model", id="no-model"),
        pytest.param(
            "mine.tiktoken", b"", "mine is unknown; rename it to gpt2.tiktoken", id="unknown-encoding"
        ),
        pytest.param("gpt2.tiktoken", b"IQ== 0\nrubbish\n", "gpt2.tiktoken:2 is not a line", id="no-ranks"),
        pytest.param(
            "tekken.json", b'{"vocab": []}', "is not a complete tekken.json: KeyError", id="no-tekken"
        ),
        pytest.param("gpt2.tiktoken", b"IQ== 0\n", "lacks 255 of the 256 single bytes", id="bytes-missing"),
    ],
)
def test_what_cannot_be_read_is_refused(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=says):
        tokenizer.load(tmp_path / name, 60_000)


def test_a_model_of_words_is_refused(tmp_path: Path) -> None:
    (tmp_path / "w.model").write_bytes(trained(model_type="word"))
    with pytest.raises(ValueError, match=r"w.model: is a SentencePiece model of words or characters"):
        tokenizer.load(tmp_path / "w.model", 1000)


def test_a_model_that_cannot_be_rebuilt_is_refused_while_packing(tmp_path: Path) -> None:
    """User-defined symbols beside spaces are cut otherwise."""
    (tmp_path / "u.model").write_bytes(trained(user_defined_symbols=["the", "of"]))
    (tmp_path / "text.txt").write_text(TEXTS[0])
    with pytest.raises(ValueError, match=r"u.model cannot be converted to tokenizer.json: the text starting"):
        pack(
            [str(tmp_path / "text.txt")],
            tmp_path / "out",
            vocabulary_size=1000,
            tokenizer=tmp_path / "u.model",
        )
    assert not (tmp_path / "out").exists()


def test_a_proof_ends_when_enough_was_compared() -> None:
    asked: list[str] = []

    def reference(texts: list[str]) -> list[list[int]]:
        asked.extend(texts)
        return [[1, 2]]

    proof = ConversionCheck("x", reference, left=5)
    proof.check(["abc", "def", "ghi"], [[1, 2], [2, 1], [9]])
    assert asked == ["abc", "def"]


@pytest.mark.parametrize("kind", list(TokenizerKind))
def test_what_was_packed_reads_back(tmp_path: Path, kind: TokenizerKind) -> None:
    (tmp_path / "text.txt").write_text(TEXTS[1])
    pack([str(tmp_path / "text.txt")], tmp_path / "out", vocabulary_size=450, kind=kind)
    shards = TokenShards.open(str(tmp_path / "out"))
    beside = Tokenizer.from_file(str(shards.tokenizer_path))
    ids = shards.document(0).tolist()
    assert ids[-1] == shards.special.eos
    assert beside.decode(ids[:-1], skip_special_tokens=False) == TEXTS[1]
