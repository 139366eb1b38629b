"""A folder that is written here and belongs elsewhere.

An object store knows no folders and no rename: a reader could meet half of what
is being written. The manifest goes last, and without one there are no shards.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from footplate_trainer.data.layout import MANIFEST_FILE, ShardManifest
from footplate_trainer.storage import open_storage


def write_elsewhere(uri: str, write: Callable[[Path], ShardManifest]) -> ShardManifest:
    """What `write` makes in a new folder of this machine, at `uri`.

    ValueError for a URI that is not known or holds something, OSError when the
    store refuses. What a failed attempt leaves behind has no manifest.
    """
    storage = open_storage(uri)
    if storage.list():
        raise ValueError(f"OUT {uri} is not empty; remove what is there or give another name")
    with tempfile.TemporaryDirectory(prefix="footplate-pack-") as scratch:
        folder = Path(scratch) / "shards"
        manifest = write(folder)
        for name in (*(record.file for record in manifest.files()), MANIFEST_FILE):
            storage.upload(folder / name, name)
    return manifest
