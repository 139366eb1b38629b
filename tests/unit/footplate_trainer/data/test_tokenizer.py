"""Vocabularies: what is reserved, how large, and that text survives the way there and back."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from footplate_trainer.data.layout import SpecialIds, SpecialTokenRole
from footplate_trainer.data.tokenizer import (
    PIECE,
    RESERVED,
    SMALLEST,
    PackTokenizer,
    batch_by_size,
    learn,
    load,
    split_text,
)

TEXTS = ["the cat sat on the mat, the cat sat", "a hat on a cat; a cat on a hat"] * 4


@pytest.fixture
def small() -> PackTokenizer:
    return learn(TEXTS, SMALLEST + 12)


def word_level(vocabulary: dict[str, int], path: Path) -> Path:
    """A foreign tokenizer.json of whole words, which truncates and pads as some downloaded ones do."""
    foreign = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    foreign.pre_tokenizer = pre_tokenizers.Whitespace()
    foreign.enable_truncation(2)
    foreign.enable_padding(length=8)
    foreign.save(str(path))
    return path


def test_all_special_tokens_are_reserved_inside_the_vocabulary(small: PackTokenizer) -> None:
    assert RESERVED == 107
    assert sorted(small.special.all()) == list(range(RESERVED))
    assert small.vocabulary_size == SMALLEST + 12 == small.tokenizer.get_vocab_size()
    assert small.tokenizer.id_to_token(small.special.eos) == "<eos>"
    assert small.tokenizer.id_to_token(small.special.sentinels[99]) == "<extra_id_99>"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("the cat", id="known"),
        pytest.param("  tabs\t\tand\r\nline ends\n\n", id="white-space"),
        pytest.param("naïve 日本語 🦊 \x00\x7f", id="bytes-never-seen"),
        pytest.param("<eos> <pad><mask> <extra_id_0>", id="looks-special"),
    ],
)
def test_text_survives_and_never_encodes_to_a_special_id(small: PackTokenizer, text: str) -> None:
    [ids] = small.encode([text])
    assert small.tokenizer.decode(ids.tolist(), skip_special_tokens=False) == text
    assert not set(ids.tolist()) & set(small.special.all())


def test_the_smallest_vocabulary_has_bytes_only() -> None:
    assert len(learn(TEXTS, SMALLEST).encode(["cat"])[0]) == 3


def test_too_small_a_vocabulary_is_refused_with_the_right_number() -> None:
    with pytest.raises(ValueError, match=r"--vocabulary-size 362 is too small.* pass 363 or more"):
        learn(TEXTS, SMALLEST - 1)


def test_a_short_text_fills_less_of_the_vocabulary() -> None:
    assert learn(["ab ab"], 10_000).vocabulary_size < SMALLEST + 5


def test_learning_twice_gives_the_same_file() -> None:
    assert learn(TEXTS, SMALLEST + 12).to_json() == learn(TEXTS, SMALLEST + 12).to_json()


def test_long_texts_are_encoded_in_parts_without_losing_any(small: PackTokenizer) -> None:
    long = "the cat sat\n" * (PIECE // 8)
    texts = ["a hat", long, "a cat"]
    done: list[int] = []
    assert [small.tokenizer.decode(ids.tolist()) for ids in small.encode(texts, done.append)] == texts
    assert sum(done) == sum(map(len, texts))


def test_pieces_end_with_lines_where_they_can() -> None:
    text = "".join(f"line {number}\n" for number in range(40))
    for limit in (1, 7, 50, 10_000):
        pieces = list(split_text(text, limit))
        assert "".join(pieces) == text
        assert max(map(len, pieces)) <= limit
    assert all(piece.endswith("\n") for piece in split_text(text, 50))


@pytest.mark.parametrize(
    ("limit", "groups"),
    [
        pytest.param(1, [["aa"], ["bbb"], ["c"]], id="one-each"),
        pytest.param(5, [["aa", "bbb"], ["c"]], id="full"),
        pytest.param(99, [["aa", "bbb", "c"]], id="all"),
    ],
)
def test_texts_are_grouped_by_length(limit: int, groups: list[list[str]]) -> None:
    assert list(batch_by_size(["aa", "bbb", "c"], limit, size=len)) == groups
    assert list(batch_by_size([], limit, size=len)) == []


def test_a_foreign_tokenizer_keeps_its_ids_and_gets_no_other(tmp_path: Path) -> None:
    vocabulary = {"[UNK]": 0, "cat": 1, "hat": 2, "[PAD]": 3, "</s>": 4}
    ready = load(word_level(vocabulary, tmp_path / "t.json"))
    assert [ids.tolist() for ids in ready.encode(["cat hat cat hat cat", ""])] == [[1, 2, 1, 2, 1], []]
    assert ready.special == SpecialIds(unk=0, pad=3, eos=4)
    assert ready.vocabulary_size == len(vocabulary) == ready.tokenizer.get_vocab_size()


def test_what_a_foreign_tokenizer_lacks_is_added_when_asked_for(tmp_path: Path) -> None:
    vocabulary = {"[UNK]": 0, "cat": 1, "hat": 2, "[PAD]": 3, "</s>": 4}
    path = word_level(vocabulary, tmp_path / "t.json")
    assert load(path, reserve=[SpecialTokenRole.MASK, SpecialTokenRole.PAD]).special == SpecialIds(
        unk=0, pad=3, eos=4, mask=5
    )
    ready = load(path, 1000, reserve=list(SpecialTokenRole))
    assert (ready.special.unk, ready.special.pad, ready.special.eos) == (0, 3, 4)
    assert ready.vocabulary_size == 5 + RESERVED - 3
    assert len(ready.special.all()) == RESERVED


def test_some_sentinels_are_as_good_as_none_until_the_others_are_asked_for(tmp_path: Path) -> None:
    path = word_level({"[UNK]": 0, "<extra_id_1>": 1}, tmp_path / "t.json")
    assert load(path).special.sentinels == []
    assert load(path, reserve=[SpecialTokenRole.SENTINELS]).special.sentinels == [2, 1, *range(3, 101)]


def test_a_role_may_be_a_token_of_another_name(tmp_path: Path) -> None:
    path = word_level({"[UNK]": 0, "<|im_end|>": 1, "</s>": 2}, tmp_path / "t.json")
    chat = {SpecialTokenRole.EOS: "<|im_end|>", SpecialTokenRole.PAD: "<|im_end|>"}
    ready = load(path, reserve=[SpecialTokenRole.PAD, SpecialTokenRole.EOS], named=chat)
    assert ready.special == SpecialIds(unk=0, eos=1, pad=1)
    assert (ready.vocabulary_size, ready.special.all()) == (3, [1, 0])
    with pytest.raises(ValueError, match=r"--special-token pad=<fill>: .*t\.json has no such token"):
        load(path, named={SpecialTokenRole.PAD: "<fill>"})


def test_where_no_token_ends_a_text_a_separator_does(tmp_path: Path) -> None:
    bert = load(word_level({"[UNK]": 0, "[CLS]": 1, "[SEP]": 2}, tmp_path / "bert.json")).special
    assert (bert.ends, bert.end, bert.eos) == ([2], 2, None)
    both = load(word_level({"[UNK]": 0, "[SEP]": 1, "</s>": 2}, tmp_path / "both.json")).special
    assert (both.ends, both.end) == (None, 2)
    assert load(word_level({"[UNK]": 0}, tmp_path / "none.json")).special.end is None


def test_a_foreign_tokenizer_that_does_not_fit_is_refused_with_the_right_number(tmp_path: Path) -> None:
    path = word_level({"[UNK]": 0, "cat": 1}, tmp_path / "t.json")
    assert load(path, 2).vocabulary_size == 2
    with pytest.raises(ValueError, match=r"--vocabulary-size 1 is too small .* its 2 ids need 2; pass that"):
        load(path, 1)
    assert load(path, 108, reserve=list(SpecialTokenRole)).vocabulary_size == 108
    with pytest.raises(ValueError, match=r"its 2 ids and the 106 that --reserve adds need 108"):
        load(path, 107, reserve=list(SpecialTokenRole))


@pytest.mark.parametrize(
    ("content", "named"),
    [
        pytest.param(None, "no such file; use a tokenizer.json", id="missing"),
        pytest.param("{}", "is not a tokenizer.json", id="another-json"),
        pytest.param("text", "is not a tokenizer.json", id="no-json"),
    ],
)
def test_what_is_no_tokenizer_is_refused(tmp_path: Path, content: str | None, named: str) -> None:
    path = tmp_path / "t.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ValueError, match=named):
        load(path, 1000)
