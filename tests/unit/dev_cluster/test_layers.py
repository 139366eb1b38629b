"""From the builder's store to a node's snapshots."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from cluster.errors import ClusterError
from cluster.images import oci
from cluster.images.layer_store import LayerStore, chain_ids, data_file, lineage
from cluster.native import node_images
from cluster.native.node_images import superseded, writable_folder

ROWS = [
    {"id": "top", "parent": "middle", "diff-digest": "sha256:c"},
    {"id": "bottom", "diff-digest": "sha256:a"},
    {"id": "middle", "parent": "bottom", "diff-digest": "sha256:b"},
    {"id": "other", "parent": "bottom", "diff-digest": "sha256:d"},
]


def store(root: Path, diffs: list[str]) -> LayerStore:
    """A store as buildah writes it, with one image of three layers."""
    (root / "overlay-layers").mkdir(parents=True)
    (root / "overlay-layers" / "layers.json").write_text(json.dumps(ROWS))
    image = root / "overlay-images" / "f00d"
    image.mkdir(parents=True)
    row = {"id": "f00d", "layer": "top", "names": ["localhost/x:1"], "created": "2026-01-01"}
    (image.parent / "images.json").write_text(json.dumps([row]))
    (image / "manifest").write_text("{}")
    config = {"rootfs": {"type": "layers", "diff_ids": diffs}}
    (image / data_file("sha256:f00d")).write_text(json.dumps(config))
    return LayerStore(root)


def test_chain_ids_follow_the_oci_image_specification() -> None:
    expected = hashlib.sha256(b"sha256:a sha256:b").hexdigest()
    assert chain_ids(["sha256:a", "sha256:b"]) == ["sha256:a", f"sha256:{expected}"]
    assert chain_ids([]) == []


def test_lineage_goes_from_the_lowest_layer_up() -> None:
    assert [row["id"] for row in lineage("top", ROWS)] == ["bottom", "middle", "top"]


def test_a_missing_layer_is_named() -> None:
    with pytest.raises(ClusterError, match="lacks layer bottom"):
        lineage("top", [row for row in ROWS if row["id"] != "bottom"])


def test_an_image_is_read_with_its_layers(tmp_path: Path) -> None:
    image = store(tmp_path, ["sha256:a", "sha256:b", "sha256:c"]).get("localhost/x:1")
    assert [layer.folder.parent.name for layer in image.layers] == ["bottom", "middle", "top"]
    assert image.digest == f"sha256:{hashlib.sha256(b'{}').hexdigest()}"


def test_an_image_that_contradicts_its_layers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="does not match its layers"):
        store(tmp_path, ["sha256:a", "sha256:b", "sha256:x"]).get("localhost/x:1")


def test_an_image_that_is_not_built_says_how_to_build_it(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="make images"):
        LayerStore(tmp_path).get("localhost/x:1")


@pytest.mark.parametrize(
    ("mount", "folder"),
    [
        pytest.param("mount -t bind /s/2/fs /unused -o rw,rbind", "/s/2/fs", id="lowest-layer"),
        pytest.param(
            "mount -t overlay overlay /unused -o workdir=/s/3/work,upperdir=/s/3/fs,lowerdir=/s/2/fs",
            "/s/3/fs",
            id="further-layer",
        ),
    ],
)
def test_the_folder_of_a_prepared_snapshot(mount: str, folder: str) -> None:
    assert writable_folder(mount) == Path(folder)


def test_an_image_without_a_tag_is_superseded() -> None:
    names = {"localhost/x:dev": "sha256:new", "sha256:1": "sha256:new", "sha256:2": "sha256:old"}
    assert superseded(names) == ["sha256:2"]


def test_an_archive_names_the_image_and_leaves_its_layers_out(tmp_path: Path) -> None:
    image = store(tmp_path, ["sha256:a", "sha256:b", "sha256:c"]).get("localhost/x:1")
    with tarfile.open(fileobj=io.BytesIO(node_images.archive(image, "localhost/x:dev"))) as archive:
        blobs = [name for name in archive.getnames() if name.startswith("blobs/")]
        index = json.load(archive.extractfile("index.json") or io.BytesIO())
    assert len(blobs) == 2
    assert index["manifests"][0]["annotations"]["io.containerd.image.name"] == "localhost/x:dev"


def test_the_pause_image_is_the_same_bytes_every_time() -> None:
    first = oci.single_program_archive("localhost/pause:1", "pause", b"program")
    assert first == oci.single_program_archive("localhost/pause:1", "pause", b"program")
