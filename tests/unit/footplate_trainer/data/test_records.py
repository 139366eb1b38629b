"""Rows of files and folders, each with its place."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as arrow
import pytest
from pyarrow import parquet

from footplate_trainer.data.row_files import BadRow, list_files, split_of

ROWS = [{"n": number, "text": f"é{number}"} for number in range(5)]


def lines(rows: Sequence[Any] = ROWS) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def write_parquet(path: Path, rows: Sequence[dict[str, Any]] = ROWS) -> None:
    parquet.write_table(arrow.Table.from_pylist(list(rows)), path, row_group_size=2)


def contents(uri: str | Path, **options: Any) -> list[Any]:
    return [row.content for file in list_files(str(uri), **options) for row in file.rows()]


def names(uri: Path, **options: Any) -> list[str]:
    return [file.name for file in list_files(str(uri), **options)]


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.json", "a.json.gz", "a.parquet", "list.json"])
def test_every_kind_of_file_gives_its_rows_with_their_places(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    content = json.dumps(ROWS).encode() if name == "list.json" else lines()
    if name == "a.parquet":
        write_parquet(path)
    else:
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    [file] = list_files(str(path))
    rows = list(file.rows())
    assert [row.content for row in rows] == ROWS
    assert [row.place for row in rows] == [f"{path}:{number}" for number in range(1, 6)]
    assert 0 < sum(row.bytes for row in rows) <= 2 * file.bytes + len(content)


def test_the_place_of_a_row_counts_empty_lines(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + b'{"a": 1}\n\n  \n{"a": 2}')
    [file] = list_files(f"file://{tmp_path}/a.jsonl")
    assert [(row.place[-2:], row.content) for row in file.rows()] == [(":1", {"a": 1}), (":4", {"a": 2})]


@pytest.mark.parametrize(
    ("line", "reason", "says"),
    [
        pytest.param(b'{"a": ', "not JSON", "is not valid JSON: Expecting value at character 8", id="json"),
        pytest.param(b"[" * 99_999, "not JSON", "is not valid JSON", id="deep"),
        pytest.param(b'{"a": "\xff"}', "not UTF-8", "is not UTF-8", id="utf-8"),
        pytest.param(b'{"a": "\\ud83d"}', "not UTF-8", "an unpaired surrogate", id="surrogate"),
        pytest.param(b"17", "not an object", "is a int; each row must be an object", id="number"),
    ],
)
def test_a_broken_row_is_told_and_the_next_one_read(
    line: bytes, reason: str, says: str, tmp_path: Path
) -> None:
    (tmp_path / "a.jsonl").write_bytes(line + b'\n{"a": "\\ud83d\\ude42"}\n')
    bad, good = contents(tmp_path / "a.jsonl")
    assert isinstance(bad, BadRow)
    assert bad.reason == reason
    assert says in str(bad)
    assert good == {"a": "🙂"}


@pytest.mark.parametrize(
    ("name", "says"),
    [
        pytest.param("a.parquet", "a.parquet is not a readable parquet file", id="parquet"),
        pytest.param("a.json", "a.json is not valid JSON", id="list"),
    ],
)
def test_a_broken_file_is_named(name: str, says: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"[1, 2")
    with pytest.raises(ValueError, match=says):
        contents(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "split"),
    [
        pytest.param("data/train-00000-of-00002.parquet", "train", id="hub-train"),
        pytest.param("data/validation-00000-of-00001.parquet", "validation", id="hub-validation"),
        pytest.param("test/a.jsonl", "test", id="folder"),
        pytest.param("my_dev.jsonl", "validation", id="dev"),
        pytest.param("eval.json", "test", id="eval"),
        pytest.param("latest.jsonl", "train", id="no-word-of-it"),
        pytest.param("contest_a.jsonl", "train", id="within-a-word"),
    ],
)
def test_a_name_says_its_split(name: str, split: str) -> None:
    assert split_of(name) == split


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    for name in ("data/train-1.parquet", "data/train-0.parquet", "data/test-0.parquet"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_parquet(tmp_path / name, [{"name": name}])
    (tmp_path / "more.jsonl").write_bytes(lines())
    (tmp_path / "LICENSE").write_text("MIT")
    return tmp_path


def test_a_folder_gives_the_files_of_a_split_by_name(hub: Path) -> None:
    assert names(hub) == ["data/train-0.parquet", "data/train-1.parquet", "more.jsonl"]
    assert names(hub, split="test") == ["data/test-0.parquet"]
    assert names(hub, include=["*.jsonl"]) == ["more.jsonl"]
    assert contents(hub, include=["data/*"]) == [{"name": f"data/train-{n}.parquet"} for n in (0, 1)]


README = """---
license: mit
configs:
- config_name: plain
  data_files: more.jsonl
- config_name: tables
  default: true
  data_files:
  - split: train
    path: data/train-*
  - split: held_out
    path:
    - data/test-0.parquet
---
# A data set
"""


def test_readme_says_which_files_a_config_has(hub: Path) -> None:
    (hub / "README.md").write_text(README)
    assert names(hub) == ["data/train-0.parquet", "data/train-1.parquet"]
    assert names(hub, split="held_out") == ["data/test-0.parquet"]
    assert names(hub, config="plain") == ["more.jsonl"]


def test_a_readme_without_configs_says_nothing(hub: Path) -> None:
    (hub / "README.md").write_text("# A data set\n")
    assert len(names(hub)) == 3


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        pytest.param("none", {}, "is not a folder, and not a .jsonl", id="nothing-there"),
        pytest.param("none.jsonl", {}, "no such file", id="no-file"),
        pytest.param(
            "http://host/folder", {}, "a web server does not list a folder's files", id="web-folder"
        ),
        pytest.param("", {"split": "dev"}, "of split dev; its splits are test, train", id="no-split"),
        pytest.param("", {"include": ["*.csv"]}, r"of split train that matches \*.csv", id="no-match"),
        pytest.param("", {"config": "x"}, "has no README.md that names configs", id="no-configs"),
    ],
)
def test_an_input_that_holds_nothing_is_named(
    hub: Path, name: str, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        list_files(name if "://" in name else str(hub / name), **options)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param(
            ("  default: true\n", ""), "has the configs plain, tables; pass one of them", id="several"
        ),
        pytest.param(("configs:", "configs: ["), "its front matter is not valid YAML", id="yaml"),
    ],
)
def test_a_readme_that_leaves_it_open_is_told(hub: Path, change: tuple[str, str], says: str) -> None:
    (hub / "README.md").write_text(README.replace(*change))
    with pytest.raises(ValueError, match=says):
        list_files(str(hub))
