"""Reads the layers that buildah has already unpacked.

An image of 6 GB would have to be packed, copied and unpacked again for each node: three times five
minutes of disk. But buildah keeps each layer as a folder on the same disk and in the very form that
containerd's overlay snapshots have, so nodes can hard-link it (``node_images``).

The files read here are those of containers/storage, unchanged since 2017: ``images.json`` and
``layers.json`` for what is on what, and each image's manifest and configuration by their digests.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.errors import ClusterError


@dataclass(frozen=True)
class Layer:
    """One layer of an image."""

    folder: Path
    diff: str  # the digest of its uncompressed tar
    chain: str  # names the layer together with all below it, as containerd names snapshots


@dataclass(frozen=True)
class StoredImage:
    """One image of the store, its layers from the lowest up."""

    manifest: bytes
    config: bytes
    layers: tuple[Layer, ...]

    @property
    def digest(self) -> str:
        return f"sha256:{hashlib.sha256(self.manifest).hexdigest()}"


def chain_ids(diffs: list[str]) -> list[str]:
    """The chain id of each layer, as the OCI image specification defines it."""
    chains: list[str] = []
    for diff in diffs:
        if chains:
            pair = f"{chains[-1]} {diff}".encode()
            chains.append(f"sha256:{hashlib.sha256(pair).hexdigest()}")
        else:
            chains.append(diff)
    return chains


def lineage(top: str, layers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of layers.json that make up an image, from the lowest to ``top``."""
    by_id = {row["id"]: row for row in layers}
    found: list[dict[str, Any]] = []
    current: str | None = top
    while current:
        if current not in by_id:
            raise ClusterError(f"the image store lacks layer {current}; remove its folder to start afresh")
        found.append(by_id[current])
        current = by_id[current].get("parent")
    return found[::-1]


def data_file(key: str) -> str:
    """The name of the file that holds an image's item ``key``."""
    plain = all(character.isalnum() or character in "-_." for character in key)
    return key if plain else "=" + base64.b64encode(key.encode()).decode()


class LayerStore:
    """The images that buildah built into one root folder."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def _rows(self, kind: str) -> list[dict[str, Any]]:
        path = self._root / f"overlay-{kind}" / f"{kind}.json"
        rows: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []
        return rows

    def names(self) -> list[str]:
        """All names of images, the oldest image first."""
        rows = sorted(self._rows("images"), key=lambda row: str(row.get("created", "")))
        return [name for row in rows for name in row.get("names") or []]

    def get(self, name: str) -> StoredImage:
        """The image of that name.

        Raises:
            ClusterError: there is none, or the store is damaged.
        """
        for row in self._rows("images"):
            if name in (row.get("names") or []):
                return self._load(row)
        raise ClusterError(f"{name} is not built: run `make images`")

    def _load(self, row: dict[str, Any]) -> StoredImage:
        folder = self._root / "overlay-images" / row["id"]
        manifest = (folder / data_file("manifest")).read_bytes()
        config = (folder / data_file(f"sha256:{row['id']}")).read_bytes()
        rows = lineage(row["layer"], self._rows("layers"))
        diffs = [layer["diff-digest"] for layer in rows]
        if diffs != json.loads(config)["rootfs"]["diff_ids"]:
            raise ClusterError(f"image {row['id'][:12]} does not match its layers in {self._root}")
        layers = (
            Layer(self._root / "overlay" / layer["id"] / "diff", diff, chain)
            for layer, diff, chain in zip(rows, diffs, chain_ids(diffs), strict=True)
        )
        return StoredImage(manifest, config, tuple(layers))
