"""A model's folder, wherever it lies; nothing here needs torch."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from pathlib import Path

import pytest

from footplate_trainer.errors import StorageError, UserMistake
from footplate_trainer.huggingface.folder import (
    CONFIG_FILE,
    INDEX_FILE,
    WEIGHTS_FILE,
    ModelFolder,
    weight_map,
)
from footplate_trainer.input_folder import copy_key, folder_read_error
from footplate_trainer.node_cache import RemoteFile
from footplate_trainer.storage import NoCredentials, open_storage

CONFIG = json.dumps({"model_type": "llama"}).encode()
PARTS = {"part-1.safetensors": b"one", "part-2.safetensors": b"two"}
INDEX = json.dumps({"weight_map": {f"tensor {name}": name for name in PARTS}}).encode()


@pytest.fixture(params=["path", "memory"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "model") if request.param == "path" else f"memory://{uuid.uuid4().hex}/model"


@pytest.fixture
def remote() -> str:
    return f"memory://{uuid.uuid4().hex}/model"


def write(uri: str, scratch: Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        (scratch / "content").write_bytes(content)
        open_storage(uri).upload(scratch / "content", name)


def opened(uri: str, tmp_path: Path) -> ModelFolder:
    return ModelFolder(uri, environment={"FOOTPLATE_DATA_CACHE": str(tmp_path / "cache")})


def test_names_and_contents(uri: str, tmp_path: Path) -> None:
    write(uri, tmp_path, {CONFIG_FILE: CONFIG, WEIGHTS_FILE: b"weights"})
    folder = opened(uri, tmp_path)
    assert folder.names() == [CONFIG_FILE, WEIGHTS_FILE]
    assert folder.read(CONFIG_FILE) == CONFIG
    assert folder.read("chat_template.jinja") is None
    assert folder.config() == {"model_type": "llama"}


def test_a_volume_is_used_as_it_is(tmp_path: Path) -> None:
    there = opened(str(tmp_path / "model"), tmp_path).fetch_weights()
    assert (there.path, there.digest, there.copy) == (tmp_path / "model", "", None)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    "files",
    [
        pytest.param({WEIGHTS_FILE: b"weights"}, id="one-file"),
        pytest.param({INDEX_FILE: INDEX, **PARTS}, id="index"),
        pytest.param(PARTS, id="no-index"),
    ],
)
def test_weights_are_copied_and_nothing_else(remote: str, tmp_path: Path, files: dict[str, bytes]) -> None:
    write(remote, tmp_path, {CONFIG_FILE: CONFIG, "original.pth": b"large", **files})
    there = opened(remote, tmp_path).fetch_weights()
    copied = {path.name: path.read_bytes() for path in there.path.glob("[!.]*")}
    assert copied == {CONFIG_FILE: CONFIG, **files}


def test_an_index_chooses_among_files(remote: str, tmp_path: Path) -> None:
    write(remote, tmp_path, {CONFIG_FILE: CONFIG, INDEX_FILE: INDEX, **PARTS, WEIGHTS_FILE: b"other"})
    assert not (opened(remote, tmp_path).fetch_weights().path / WEIGHTS_FILE).exists()


def test_equal_sizes_do_not_make_an_old_copy_good(remote: str, tmp_path: Path) -> None:
    write(remote, tmp_path, {CONFIG_FILE: CONFIG, WEIGHTS_FILE: b"old"})
    before = opened(remote, tmp_path).fetch_weights()
    assert opened(remote, tmp_path).fetch_weights().digest == before.digest
    write(remote, tmp_path, {WEIGHTS_FILE: b"new"})
    after = opened(remote, tmp_path).fetch_weights()
    assert after.digest != before.digest
    assert (after.path / WEIGHTS_FILE).read_bytes() == b"new"


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        pytest.param({}, r"has no config\.json; use a folder with config\.json", id="nothing"),
        pytest.param({CONFIG_FILE: b"[]"}, r"config\.json: is a list", id="no-object"),
        pytest.param({CONFIG_FILE: b"{"}, r"config\.json: Expecting", id="torn-config"),
        pytest.param(
            {CONFIG_FILE: CONFIG},
            r"has no \*\.safetensors; copy the weights there, too",
            id="half-a-folder",
        ),
        pytest.param(
            {CONFIG_FILE: CONFIG, INDEX_FILE: INDEX, "part-1.safetensors": b"one"},
            r"index\.json lists files that are missing: part-2\.safetensors; copy them, too",
            id="file-of-the-index-missing",
        ),
        pytest.param(
            {CONFIG_FILE: CONFIG, INDEX_FILE: b"{}"},
            r"index\.json is not a safetensors index: KeyError",
            id="no-index",
        ),
    ],
)
def test_what_a_folder_lacks_is_named(
    remote: str, tmp_path: Path, files: dict[str, bytes], complaint: str
) -> None:
    write(remote, tmp_path, files)
    folder = opened(remote, tmp_path)
    with pytest.raises(UserMistake, match=complaint) as told:
        folder.config()
        folder.fetch_weights()
    assert remote in str(told.value)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        UserMistake, match=f"^initFrom.uri {tmp_path}/model: the folder does not exist; use a folder with"
    ):
        opened(str(tmp_path / "model"), tmp_path).config()


def test_a_uri_that_nothing_reads_is_refused_with_its_field() -> None:
    with pytest.raises(UserMistake, match=r"^reward.uri: sftpp://host/x cannot be opened .*; use a path"):
        ModelFolder("sftpp://host/x", "reward.uri")


@pytest.mark.parametrize(
    "file", ["../other/a.safetensors", "/etc/a.safetensors", ".hidden", "deep/a", "..", 5]
)
def test_an_index_names_files_of_its_own_folder_only(file: object) -> None:
    with pytest.raises(
        UserMistake, match=r"^place (lists files of other folders|is not a safetensors index)"
    ):
        weight_map(json.dumps({"weight_map": {"tensor": file}}).encode(), "place")


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        pytest.param(
            PermissionError("s3://b/m/x: denied"),
            UserMistake,
            "initFrom.uri cannot be read: s3://b/m/x: denied; set credentials that may read and list it",
            id="denied",
        ),
        pytest.param(
            NoCredentials("s3://b/m/x: no credentials found"), UserMistake, "trainer.envFrom", id="none"
        ),
        pytest.param(FileNotFoundError("s3://b: no bucket"), UserMistake, "use an existing", id="gone"),
        pytest.param(
            OSError("s3://b/m/x: 500"), StorageError, "initFrom.uri cannot be read: s3", id="outage"
        ),
    ],
)
def test_a_restart_mends_only_what_may_pass(error: OSError, kind: type[Exception], text: str) -> None:
    raised = folder_read_error("initFrom.uri", "s3://b/m", error)
    assert type(raised) is kind
    assert text in str(raised)


def test_a_copy_of_files_without_stamps_is_for_one_run() -> None:
    bare, stamped = [RemoteFile("a", 1)], [RemoteFile("a", 1, stamp="tag")]
    assert copy_key("u", bare, {}, "one") != copy_key("u", bare, {}, "two")
    assert copy_key("u", stamped, {}, "one") == copy_key("u", stamped, {}, "two")
    assert copy_key("u", stamped, {}, "") != copy_key("v", stamped, {}, "")
    assert copy_key("u", stamped, {"c": b"1"}, "") != copy_key("u", stamped, {"c": b"2"}, "")
