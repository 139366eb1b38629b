"""Whether a run's answers stand already, where something else does, and what an attempt left."""

from __future__ import annotations

from pathlib import Path

import pytest

from footplate_trainer.data.layout import GeneratedRecord, ShardManifest
from footplate_trainer.errors import UserMistake
from footplate_trainer.rollout.output import find_written_dataset
from footplate_trainer.storage import open_storage
from tests.support.tiny import pack_tiny


def put(uri: str, folder: Path, **files: bytes) -> None:
    for name, content in files.items():
        (folder / "file").write_bytes(content)
        open_storage(uri).upload(folder / "file", name.replace("_", "."))


@pytest.mark.parametrize("kind", ["volume", "elsewhere"])
def test_only_the_manifest_of_this_run_says_that_it_is_done(kind: str, tmp_path: Path) -> None:
    uri = str(tmp_path / "answers") if kind == "volume" else f"memory://{tmp_path.name}"
    assert find_written_dataset(uri, "u1") is None
    packed = ShardManifest.model_validate_json((pack_tiny(tmp_path) / "manifest.json").read_bytes())
    record = GeneratedRecord(run="r", uid="u1", weights="w", prompts="p", prompts_from=["/p"])
    own = packed.model_copy(update={"generated": record})
    put(uri, tmp_path, manifest_json=own.model_dump_json(by_alias=True).encode())
    assert find_written_dataset(uri, "u1") == own
    with pytest.raises(UserMistake, match="already has a data set; use a folder that does not exist"):
        find_written_dataset(uri, "u2")


@pytest.mark.parametrize("manifest", [b"{", b'{"format": "chat"}'], ids=["torn", "of-others"])
def test_a_manifest_that_cannot_be_read_is_somebody_elses(manifest: bytes, tmp_path: Path) -> None:
    uri = f"memory://{tmp_path.name}"
    put(uri, tmp_path, manifest_json=manifest)
    with pytest.raises(UserMistake, match="already has a data set"):
        find_written_dataset(uri, "u1")


def test_what_an_attempt_left_elsewhere_is_written_over(tmp_path: Path) -> None:
    uri = f"memory://{tmp_path.name}"
    put(uri, tmp_path, tokenizer_json=b"{}")
    assert find_written_dataset(uri, "u1") is None
    put(uri, tmp_path, notes_txt=b"mine")
    with pytest.raises(UserMistake, match="is not empty; use a folder that does not exist"):
        find_written_dataset(uri, "u1")
