"""Pairs and values: from lines of JSON to samples, and what is refused on the way."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from footplate_contracts.v1alpha1.data import Data
from footplate_trainer.data.check import check_data
from footplate_trainer.data.layout import RecordKind, ShardManifest, SpecialIds
from footplate_trainer.data.pack import pack
from footplate_trainer.data.shards import TokenShards
from footplate_trainer.data.sources import RunShards, dataset_of
from footplate_trainer.errors import UserMistake
from tests.unit.footplate_trainer.data.conftest import WriteShards

PAIRS = [{"query": f"what is {n}", "positive": f"{n} is a number", "more": 1} for n in range(12)]
VALUES = [{"text": f"about {n}", "value": n / 2 - 3} for n in range(12)]
TEXTS = [{"text": "some running text " * 20} for _ in range(4)]
RECORDS = {RecordKind.TOKENS: TEXTS, RecordKind.PAIRS: PAIRS, RecordKind.REGRESSION: VALUES}


def lines(path: Path, records: list[object]) -> str:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


def packed(
    folder: Path, shard_format: RecordKind, name: str = "out", size: int = 400, tokens: int = 30
) -> str:
    source = lines(folder / f"{name}.jsonl", list(RECORDS[shard_format]))
    pack([source], folder / name, vocabulary_size=size, shard_format=shard_format, shard_tokens=tokens)
    return str(folder / name)


def text_of(shards: TokenShards, document: int) -> str:
    from tokenizers import Tokenizer

    return str(Tokenizer.from_file(str(shards.tokenizer_path)).decode(shards.document(document).tolist()))


def test_pairs_are_documents_in_a_row(tmp_path: Path) -> None:
    shards = TokenShards.open(packed(tmp_path, RecordKind.PAIRS))
    assert (shards.format, shards.documents) == (RecordKind.PAIRS, 24)
    assert len(shards.manifest.shards) > 1
    for number, pair in enumerate(PAIRS):
        assert text_of(shards, 2 * number) == pair["query"]
        assert text_of(shards, 2 * number + 1) == pair["positive"]


def test_values_stand_beside_their_texts(tmp_path: Path) -> None:
    shards = TokenShards.open(packed(tmp_path, RecordKind.REGRESSION), verify=(0, 1))
    assert len(shards.manifest.shards) > 1
    assert [shards.value(number) for number in range(12)] == [record["value"] for record in VALUES]
    assert text_of(shards, 7) == "about 7"


def test_a_pair_with_an_empty_half_is_skipped_whole(tmp_path: Path) -> None:
    source = lines(tmp_path / "x.jsonl", [{"query": "a", "positive": ""}, *PAIRS])
    manifest = pack([source], tmp_path / "out", vocabulary_size=400, shard_format=RecordKind.PAIRS)
    assert (manifest.documents, manifest.sources[0].skipped) == (24, 1)


@pytest.mark.parametrize(
    ("shard_format", "record", "says"),
    [
        pytest.param(
            "pairs", {"query": "a"}, r"1 has the fields \['query'\].*fields \"query\" and", id="half"
        ),
        pytest.param("pairs", {"query": 1, "positive": "b"}, "string fields", id="no-text"),
        pytest.param("regression", {"text": "a"}, 'finite number "value"', id="no-value"),
        pytest.param("regression", {"text": "a", "value": "3"}, 'finite number "value"', id="text-value"),
        pytest.param("regression", {"text": "a", "value": True}, 'finite number "value"', id="flag"),
        pytest.param("regression", {"text": "a", "value": float("nan")}, 'finite number "value"', id="nan"),
        pytest.param("regression", {"text": "a", "value": 1e39}, 'finite number "value"', id="too-large"),
        pytest.param("regression", [1], "x.jsonl:1 has a list", id="no-object"),
    ],
)
def test_a_line_that_is_no_record_is_named(
    tmp_path: Path, shard_format: str, record: object, says: str
) -> None:
    source = lines(tmp_path / "x.jsonl", [record])
    with pytest.raises(ValueError, match=says):
        pack([source], tmp_path / "out", vocabulary_size=400, shard_format=RecordKind(shard_format))


def test_records_are_read_from_lines_of_json_only(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(
        ValueError, match=r'a.txt: --format pairs reads .jsonl files whose lines have "query" and'
    ):
        pack([str(tmp_path / "a.txt")], tmp_path / "out", vocabulary_size=400, shard_format=RecordKind.PAIRS)
    with pytest.raises(ValueError, match="INPUT python-docs: is not a file"):
        pack(["python-docs:"], tmp_path / "out", vocabulary_size=400, shard_format=RecordKind.PAIRS)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param(
            lambda m: m.update(format="pairs", documents=1), "1 documents: one has no pair", id="odd"
        ),
        pytest.param(lambda m: m.update(format="regression"), "does not match its values", id="no-values"),
        pytest.param(
            lambda m: m["specialIds"].update(sentinels=[7, 8]),
            "there are 2 sentinels; must be 100 or none",
            id="few",
        ),
        pytest.param(
            lambda m: m["specialIds"].update(ends=[2, 400]), "special id is outside .* 400", id="far-end"
        ),
    ],
)
def test_a_manifest_that_is_not_of_its_format_is_refused(change, says: str) -> None:
    record = {"file": "a.bin", "bytes": 2, "sha256": "0" * 64}
    manifest = {
        "dtype": "uint16",
        "vocabularySize": 400,
        "specialIds": {
            **{name: n for n, name in enumerate(("pad", "bos", "eos", "unk", "cls", "sep", "mask"))},
            "sentinels": list(range(7, 107)),
        },
        "tokenizer": record,
        "shards": [{**record, "tokens": 1, "documents": 1, "offsets": record}],
        "tokens": 1,
        "documents": 1,
        "sources": [],
        "seed": 0,
    }
    assert ShardManifest.from_json(manifest).format is RecordKind.TOKENS
    change(manifest)
    with pytest.raises(ValueError, match=says):
        ShardManifest.from_json(manifest)


def test_a_manifest_of_before_reads_and_is_written_as_ever() -> None:
    """Every id was there, and an older release reads what is packed today with a learned tokenizer."""
    ids = {name: n for n, name in enumerate(("pad", "bos", "eos", "unk", "cls", "sep", "mask"))}
    written = {**ids, "sentinels": list(range(7, 107))}
    special = SpecialIds.from_json(written)
    assert special.all() == list(range(107)) and (special.end, special.padding) == (2, 0)
    assert special.to_json() == written


@pytest.mark.parametrize(
    ("loss", "shard_format"),
    [
        pytest.param("crossEntropy", RecordKind.PAIRS, id="pairs-for-tokens"),
        pytest.param("crossEntropy", RecordKind.REGRESSION, id="values-for-tokens"),
        pytest.param("contrastive", RecordKind.TOKENS, id="tokens-for-pairs"),
        pytest.param("mse", RecordKind.PAIRS, id="pairs-for-values"),
    ],
)
def test_a_loss_refuses_data_of_another_format(tmp_path: Path, loss: str, shard_format: RecordKind) -> None:
    data = Data.from_json({"uri": packed(tmp_path, shard_format)})
    with pytest.raises(
        UserMistake, match=rf"loss {loss} is trained on .*--format \w+, but .* has {shard_format}"
    ):
        dataset_of(RunShards.open(data), data, loss, 16)


@pytest.mark.parametrize("shard_format", list(RECORDS))
def test_a_loss_of_ones_own_takes_what_there_is(tmp_path: Path, shard_format: RecordKind) -> None:
    data = Data.from_json({"uri": packed(tmp_path, shard_format)})
    assert len(dataset_of(RunShards.open(data), data, "package.module:function", 16)) > 0


def test_sources_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    one = packed(tmp_path, RecordKind.PAIRS, "one")
    other = packed(tmp_path, RecordKind.TOKENS, "other")
    named = [{"name": "a", "uri": one}, {"name": "b", "uri": other}]
    with pytest.raises(UserMistake, match="sources a and b do not match: format pairs and tokens"):
        RunShards.open(Data.from_json({"sources": named}))
    named[0]["uri"] = packed(tmp_path, RecordKind.TOKENS, "third", size=364)
    with pytest.raises(UserMistake, match=r"tokenizer .* pack them with one --tokenizer"):
        RunShards.open(Data.from_json({"sources": named}))


def test_a_tokenizer_of_the_runs_own_does_not_excuse_other_special_ids(
    write_shards: WriteShards, tmp_path: Path
) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    one, other = write_shards([[8]], folder="one"), write_shards([[8]], folder="other")
    manifest = json.loads((other.folder / "manifest.json").read_text())
    manifest["specialIds"]["eos"], manifest["tokenizer"]["sha256"] = 1, "0" * 64
    (other.folder / "manifest.json").write_text(json.dumps(manifest))
    named = [{"name": "a", "uri": one.uri}, {"name": "b", "uri": other.uri}]
    data = {"sources": named, "tokenizer": {"uri": str(tmp_path)}}
    with pytest.raises(
        UserMistake, match=r"special ids pad 0, bos 1, eos 2, .* sentinels 7 … 106 and pad 0, bos 1, eos 1,"
    ):
        RunShards.open(Data.from_json(data))


def test_the_tokenizer_may_come_from_elsewhere(tmp_path: Path) -> None:
    uri = packed(tmp_path, RecordKind.TOKENS)
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "tokenizer.json").write_text('{"mine": 1}')
    data = Data.from_json({"uri": uri, "tokenizer": {"uri": str(tmp_path / "own")}})
    assert RunShards.open(data).tokenizer == b'{"mine": 1}'
    beside = (Path(uri) / "tokenizer.json").read_bytes()
    assert RunShards.open(Data.from_json({"uri": uri})).tokenizer == beside


def test_masking_wants_running_text(tmp_path: Path) -> None:
    data = Data.from_json({"uri": packed(tmp_path, RecordKind.PAIRS), "masking": {"name": "mlm"}})
    with pytest.raises(UserMistake, match=r"data.masking needs running text; format pairs has none"):
        dataset_of(RunShards.open(data), data, "contrastive", 16)


def test_more_spans_than_sentinels_is_a_users_mistake(tmp_path: Path) -> None:
    data = Data.from_json({"uri": packed(tmp_path, RecordKind.TOKENS), "masking": {"name": "span"}})
    with pytest.raises(UserMistake, match="there are 100 sentinels"):
        dataset_of(RunShards.open(data), data, "crossEntropy", 4096)


def test_the_digest_tells_mixtures_apart(tmp_path: Path) -> None:
    uri = packed(tmp_path, RecordKind.TOKENS)

    def digest(*weights: float) -> str:
        named = [{"name": f"s{n}", "uri": uri, "weight": weight} for n, weight in enumerate(weights)]
        return RunShards.open(Data.from_json({"sources": named})).digest

    alone = RunShards.open(Data.from_json({"uri": uri})).digest
    assert alone == check_data(uri).digest
    assert len({alone, digest(1.0), digest(1.0, 2.0), digest(2.0, 1.0)}) == 4


def test_values_have_a_digest_of_their_own(write_shards: WriteShards) -> None:
    def digests(*values: float) -> tuple[str, str | None]:
        folder = "-".join(map(str, values))
        written = write_shards(
            [[200], [201]], folder=folder, shard_format=RecordKind.REGRESSION, values=values
        )
        shards = RunShards.open(Data.from_json({"uri": written.uri}))
        return shards.digest, shards.values_digest

    first, other = digests(1.0, 2.0), digests(1.0, 3.0)
    assert first[0] == other[0] and first[1] != other[1] and None not in (first[1], other[1])
    alone = write_shards([[200], [201]], folder="tokens")
    tokens = RunShards.open(Data.from_json({"uri": alone.uri}))
    assert (tokens.digest, tokens.values_digest) == (first[0], None)
