"""Samples in shards: what is written comes back, and nothing else is taken for them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from footplate_contracts.v1alpha1.data import Data, LossMask, OverlongPolicy
from footplate_trainer.data.layout import (
    MANIFEST_FILE,
    TOKENIZER_FILE,
    RecordKind,
    SamplesRecord,
    ShardManifest,
    TokenType,
)
from footplate_trainer.data.mixture import Mixture, MixtureSource
from footplate_trainer.data.prompt_dataset import PromptDataset, PromptOrder
from footplate_trainer.data.sample_shards import (
    SampleDocument,
    SampleShards,
    SampleWriter,
    StoredSample,
    select_fitting,
    whole_turns_length,
)
from footplate_trainer.data.shards import TokenShards
from footplate_trainer.data.sources import RunShards, dataset_of
from footplate_trainer.data.writer import write_file
from footplate_trainer.errors import DataCorrupt, UserMistake
from tests.unit.footplate_trainer.data.conftest import SPECIAL, VOCABULARY


def document(
    length: int, first: int = 107, learnt: Sequence[int] = (), ends: Sequence[int] = (), **more: Any
) -> SampleDocument:
    """`length` tokens from `first` on, of which the places `learnt` are learnt, or all but the first.

    At places `ends` stands token 106.
    """
    bits = np.zeros(length, dtype=bool)
    bits[list(learnt) or range(1, length)] = True
    tokens = np.arange(first, first + length, dtype=np.uint32)
    tokens[list(ends)] = 106
    return SampleDocument(tokens, bits, int(bits.argmax()), **more)


def write(
    out: Path,
    samples: Sequence[StoredSample],
    shard_format: RecordKind = RecordKind.CHAT,
    shard_tokens: int = 20,
    template: bytes | None = None,
) -> TokenShards:
    out.mkdir()
    writer = SampleWriter(out, TokenType.UINT16, shard_tokens)
    for sample in samples:
        writer.add_sample(sample)
    writer.flush()
    manifest = ShardManifest(
        format=shard_format,
        dtype=TokenType.UINT16,
        vocabulary_size=VOCABULARY,
        special_ids=SPECIAL,
        tokenizer=write_file(out / TOKENIZER_FILE, [b"{}"]),
        shards=writer.shards,
        tokens=sum(shard.tokens for shard in writer.shards),
        documents=sum(shard.documents for shard in writer.shards),
        sources=[],
        seed=0,
        samples=SamplesRecord(
            template=None if template is None else write_file(out / "chat_template.jinja", [template]),
            mask=LossMask.ASSISTANT,
            overlong=OverlongPolicy.REFUSE,
            cut=0,
            dropped={},
        ),
    )
    write_file(out / MANIFEST_FILE, [json.dumps(manifest.to_json()).encode()])
    return TokenShards.open(str(out), verify=(0, 1))


CHATS = [
    StoredSample((document(length, 107 + length, range(length % 3, length, 3)),)) for length in range(1, 14)
]
PAIRS = [
    StoredSample((document(n + 2, 110, value=n / 2), document(n + 3, 130, value=0.0)), {"raters": n})
    for n in range(7)
]
LABELS = [StoredSample((document(4, value=label),)) for label in (1.0, -1.0)]
PROMPTS = [
    StoredSample(
        (SampleDocument(np.arange(108, 108 + n, dtype=np.uint32), None, n),), {"answer": "é" * n, "n": n}
    )
    for n in range(1, 9)
]
MIXED = [StoredSample(PROMPTS[n].documents, columns) for n, columns in enumerate(({}, {"a": 1}, {"b": 2}))]
ALL = {
    RecordKind.CHAT: CHATS,
    RecordKind.PREFERENCES: PAIRS,
    RecordKind.RATINGS: LABELS,
    RecordKind.PROMPTS: PROMPTS,
}


@pytest.mark.parametrize("shard_format", list(ALL))
@pytest.mark.parametrize("shard_tokens", [7, 1000], ids=["many-shards", "one-shard"])
def test_what_was_written_comes_back(shard_format: RecordKind, shard_tokens: int, tmp_path: Path) -> None:
    samples = SampleShards(write(tmp_path / "out", ALL[shard_format], shard_format, shard_tokens))
    assert len(samples) == len(ALL[shard_format])
    assert samples.lengths.tolist() == [len(sample) for sample in ALL[shard_format]]
    assert (len(samples.shards.manifest.shards) > 1) == (shard_tokens == 7)
    for number, sample in enumerate(ALL[shard_format]):
        found = samples[number]
        assert found.columns == sample.columns
        for ours, theirs in zip(found.documents, sample.documents, strict=True):
            assert ours.tokens.tolist() == theirs.tokens.tolist()
            assert (ours.prompt, ours.value) == (theirs.prompt, theirs.value)
            assert (
                np.array_equal(ours.learnt, theirs.learnt)
                if theirs.learnt is not None
                else ours.learnt is None
            )


def test_a_pair_is_never_parted_by_a_shard(tmp_path: Path) -> None:
    shards = write(tmp_path / "out", PAIRS, RecordKind.PREFERENCES, 7)
    assert all(shard.documents % 2 == 0 for shard in shards.manifest.shards)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param("learnt", [False, False, True, True], id="learnt"),
        pytest.param("prompt", 2, id="prompt"),
        pytest.param("value", -1.0, id="value"),
        pytest.param("tokens", [107, 108, 109, 111], id="tokens"),
    ],
)
def test_the_digest_tells_samples_apart_by_all_that_is_trained_on(
    name: str, value: Any, tmp_path: Path
) -> None:
    first = LABELS[0].documents[0]
    parts = {part: getattr(first, part) for part in ("tokens", "learnt", "prompt", "value")}
    value = np.array(value) if isinstance(value, list) else value
    other = [StoredSample((SampleDocument(**{**parts, name: value}),)), LABELS[1]]
    digests = [
        write(tmp_path / str(number), samples, RecordKind.RATINGS).manifest.digest
        for number, samples in enumerate((LABELS, LABELS, other))
    ]
    assert digests[0] == digests[1] != digests[2]


def test_the_digest_tells_columns_apart(tmp_path: Path) -> None:
    other = [StoredSample(PROMPTS[0].documents, {"answer": "5"}), *PROMPTS[1:]]
    one, two = (
        write(tmp_path / name, said, RecordKind.PROMPTS) for name, said in (("a", PROMPTS), ("b", other))
    )
    assert one.manifest.digest != two.manifest.digest


@pytest.mark.parametrize(
    ("learnt", "most", "kept"),
    [
        pytest.param("0110011", 7, 7, id="all"),
        pytest.param("0110011", 6, 3, id="behind-the-first-turn"),
        pytest.param("0110011", 3, 3, id="just-fits"),
        pytest.param("0110011", 2, 0, id="not-even-the-first"),
        pytest.param("011001100", 9, 7, id="what-follows-the-last-turn-goes"),
        pytest.param("0000", 4, 0, id="nothing-learnt"),
    ],
)
def test_a_sample_is_cut_behind_a_whole_turn(learnt: str, most: int, kept: int) -> None:
    """Each run of learnt tokens is a turn, and ends with token 9."""
    bits = np.array([bit == "1" for bit in learnt])
    ends = bits & ~np.append(bits[1:], False)
    document = SampleDocument(np.where(ends, 9, 5), bits)
    assert whole_turns_length(document, most) == kept


def test_a_part_of_a_turn_is_no_place_to_cut() -> None:
    """A template may leave something out between a thought and the answer, which ends with token 9."""
    tokens, learnt = (
        np.array([1, 5, 5, 2, 5, 9, 1, 5, 5, 2, 5, 9]),
        np.array([0, 1, 1, 0, 1, 1] * 2, dtype=bool),
    )
    kept = [whole_turns_length(SampleDocument(tokens, learnt), most) for most in (12, 11, 9, 6, 5, 3)]
    assert kept == [12, 6, 6, 6, 0, 0]


TURNS = [
    StoredSample((document(8, learnt=(2, 3, 6, 7), ends=(3, 7)),)),
    StoredSample((document(5, learnt=(3, 4)),)),
    StoredSample((document(9, learnt=(7, 8)),)),
]


@pytest.mark.parametrize(
    ("overlong", "numbers", "lengths", "cut", "dropped"),
    [
        pytest.param(OverlongPolicy.DROP, [1], [5], 0, 2, id="drop"),
        pytest.param(OverlongPolicy.CUT, [0, 1], [4, 5], 1, 1, id="cut"),
    ],
)
def test_a_context_takes_what_fits(
    overlong: OverlongPolicy, numbers: list[int], lengths: list[int], cut: int, dropped: int, tmp_path: Path
) -> None:
    taken = select_fitting(SampleShards(write(tmp_path / "out", TURNS)), 7, overlong)
    assert (taken.numbers.tolist(), taken.lengths.tolist()) == (numbers, lengths)
    assert (taken.cut, taken.dropped) == (cut, dropped)


def test_what_does_not_fit_is_refused_with_its_length(tmp_path: Path) -> None:
    samples = SampleShards(write(tmp_path / "out", TURNS))
    assert select_fitting(samples, 9, OverlongPolicy.REFUSE).numbers.tolist() == [0, 1, 2]
    with pytest.raises(
        ValueError, match="has 2 samples of more than contextLength 7 tokens, the longest with 9;"
    ):
        select_fitting(samples, 7, OverlongPolicy.REFUSE)


Change = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize(
    ("shard_format", "change", "says"),
    [
        pytest.param(
            RecordKind.CHAT, lambda m: m.pop("samples"), "does not match its samples", id="no-record"
        ),
        pytest.param(
            RecordKind.CHAT, lambda m: m["shards"][0].pop("learnt"), "match its learnt", id="no-mask"
        ),
        pytest.param(
            RecordKind.CHAT, lambda m: m["shards"][0].pop("prompts"), "match its prompts", id="no-prompts"
        ),
        pytest.param(
            RecordKind.RATINGS, lambda m: m["shards"][0].pop("values"), "match its values", id="no-labels"
        ),
        pytest.param(
            RecordKind.PROMPTS,
            lambda m: m["shards"][0].pop("columns"),
            "columnsOffsets must be set together",
            id="half",
        ),
        pytest.param(
            RecordKind.PREFERENCES,
            lambda m: m["shards"][0].pop("values"),
            "some shards have values",
            id="some",
        ),
        pytest.param(
            RecordKind.CHAT, lambda m: m.update(format="tokens"), "match its samples", id="other-format"
        ),
        pytest.param(
            RecordKind.CHAT,
            lambda m: m.update(format="preferences"),
            "one has no pair",
            id="odd-pairs",
        ),
    ],
)
def test_a_manifest_that_is_not_of_its_format_is_refused(
    shard_format: RecordKind, change: Change, says: str, tmp_path: Path
) -> None:
    shards = write(tmp_path / "out", ALL[shard_format], shard_format)
    manifest = json.loads((shards.folder / MANIFEST_FILE).read_text())
    assert ShardManifest.from_json(manifest) == shards.manifest
    change(manifest)
    with pytest.raises(ValueError, match=says):
        ShardManifest.from_json(manifest)


def test_offsets_of_columns_that_do_not_fit_are_told(tmp_path: Path) -> None:
    shards = write(tmp_path / "out", PROMPTS[:1], RecordKind.PROMPTS)
    offsets = shards.folder / "shard-00000.columns-offsets"
    offsets.write_bytes(np.array([0, 3], dtype="<u8").tobytes())
    with pytest.raises(DataCorrupt, match=r"shard-00000\.columns-offsets: range is 0 … 3, should be 0 … "):
        SampleShards(shards)


def test_every_file_beside_the_tokens_is_vouched_for(tmp_path: Path) -> None:
    shards = write(tmp_path / "out", PAIRS, RecordKind.PREFERENCES, template=b"{{ x }}")
    names = {record.file for record in shards.manifest.files()}
    assert names == {path.name for path in shards.folder.iterdir()} - {MANIFEST_FILE}
    (shards.folder / "shard-00000.learnt").write_bytes(
        b"\xff" * (shards.folder / "shard-00000.learnt").stat().st_size
    )
    with pytest.raises(DataCorrupt, match=r"shard-00000\.learnt: sha256"):
        shards.verify(0, 1)


@pytest.mark.parametrize("loss", ["crossEntropy", "package.module:function"])
def test_pretraining_takes_no_conversations(loss: str, tmp_path: Path) -> None:
    data = Data.from_json({"uri": str(write(tmp_path / "out", CHATS).folder)})
    with pytest.raises(UserMistake, match="has chat"):
        dataset_of(RunShards.open(data), data, loss, 16)


def test_a_mixture_has_one_template(tmp_path: Path) -> None:
    write(tmp_path / "a", CHATS, template=b"{{ a }}")
    write(tmp_path / "b", CHATS, template=b"{{ b }}")
    sources = [{"name": name, "uri": str(tmp_path / name)} for name in "ab"]
    with pytest.raises(UserMistake, match="sources a and b do not match: chat template "):
        RunShards.open(Data.from_json({"sources": sources}))


@pytest.mark.parametrize("shard_tokens", [3, 1000], ids=["many-shards", "one-shard"])
@pytest.mark.parametrize(
    ("samples", "shard_format", "names"),
    [
        pytest.param(CHATS, RecordKind.CHAT, set(), id="none"),
        pytest.param(PROMPTS, RecordKind.PROMPTS, {"answer", "n"}, id="in-each"),
        pytest.param(MIXED, RecordKind.PROMPTS, {"a", "b"}, id="each-in-some"),
    ],
)
def test_columns_are_those_of_any_sample(
    samples: Sequence[StoredSample],
    shard_format: RecordKind,
    names: set[str],
    shard_tokens: int,
    tmp_path: Path,
) -> None:
    assert SampleShards(write(tmp_path / "out", samples, shard_format, shard_tokens)).column_names == names


def test_columns_of_prompts_do_not_depend_on_their_order(tmp_path: Path) -> None:
    sets = [
        PromptDataset(write(tmp_path / name, said, RecordKind.PROMPTS), 64)
        for name, said in (("a", MIXED), ("b", PROMPTS))
    ]
    both = Mixture([MixtureSource(str(number), 1.0, part) for number, part in enumerate(sets)])
    for seed in range(4):
        assert PromptOrder(sets[0], seed).columns == {"a", "b"}
        assert PromptOrder(both, seed).columns == {"a", "b", "answer", "n"}
