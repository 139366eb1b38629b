"""A mixture whose folders lie in a bucket trains like one on a mounted volume."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from footplate_contracts.names import ExitCode
from footplate_trainer.storage import open_storage
from tests.support.ranks import run_ranks
from tests.support.s3 import s3_server
from tests.support.tiny import pack_tiny, read_rows, tiny_config
from tests.support.training import train


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack_tiny(tmp_path_factory.mktemp("data"))


def rows(folder: Path, ranks: int, places: list[str], environment: dict[str, str]) -> list[dict[str, object]]:
    """What a run of 5 steps over a mixture of `places` logs."""
    sources = [{"name": f"part-{n}", "uri": uri, "weight": 3 - n} for n, uri in enumerate(places)]
    overrides = [f"data.sources={json.dumps(sources)}", "data.uri=null", "training.steps=5"]
    config = tiny_config(Path(places[0]), folder, overrides)
    metrics = folder / "metrics.jsonl"
    told = {**environment, "FOOTPLATE_DATA_CACHE": str(folder / "cache")}
    codes = run_ranks(train, ranks, config, metrics, environment=told)
    assert codes == [ExitCode.SUCCESS] * ranks
    return read_rows(metrics)


def test_a_bucket_is_read_like_a_volume(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = rows(tmp_path / "here", 1, [str(shards), str(shards)], {})
    with s3_server("bucket") as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        for folder in ("a", "b"):
            store = open_storage(f"s3://bucket/{folder}")
            for path in shards.iterdir():
                store.upload(path, path.name)
        there = rows(tmp_path / "there", 2, ["s3://bucket/a", "s3://bucket/b"], environment)
    assert [row["sampleDigest"] for row in there] == [row["sampleDigest"] for row in here]
    assert [row["loss"] for row in there] == pytest.approx([row["loss"] for row in here], abs=3e-6)
    # One copy of the two equal folders, for both ranks.
    assert len(list((tmp_path / "there" / "cache").glob("*/shard-00000.bin"))) == 1
