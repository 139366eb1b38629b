"""A model's folder as transformers writes it, on any storage.

    config.json                     the shape
    model.safetensors               the weights,
    model.safetensors.index.json    or an index of the files in which they are

A bucket can list a folder; a web server often cannot, and then these names are
tried. Nothing here needs torch: a plan reads the shape, and other callers only the
files beside the weights.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from footplate_trainer.errors import UserMistake
from footplate_trainer.input_folder import InputFolder, NodeFolder

CONFIG_FILE: Final = "config.json"
INDEX_FILE: Final = "model.safetensors.index.json"
WEIGHTS_FILE: Final = "model.safetensors"
WEIGHTS_ENDING: Final = ".safetensors"
_NAME: Final = re.compile(r"[^./\\][^/\\]*")


class ModelFolder(InputFolder):
    """A model at a path, in an object store or at any URI that fsspec reads."""

    def __init__(
        self, uri: str, field: str = "initFrom.uri", environment: Mapping[str, str] = os.environ
    ) -> None:
        """Open the folder; UserMistake, which names `field`, for a URI that no storage can read."""
        super().__init__(uri, field, environment)

    def config(self) -> dict[str, Any]:
        """Return the content of config.json; UserMistake when there is none, or it is no object."""
        text, place = self._config_text(), self.display_path(CONFIG_FILE)
        try:
            config = json.loads(text)
        except ValueError as error:
            raise UserMistake(f"{place}: {error}") from error
        if not isinstance(config, dict):
            raise UserMistake(f"{place}: is a {type(config).__name__}; must be an object of settings")
        return config

    def _config_text(self) -> bytes:
        text = self.read(CONFIG_FILE)
        if text is None:
            missing = f"has no {CONFIG_FILE}" if self.exists else "the folder does not exist"
            raise self.user_mistake(f"{missing}; use a folder with {CONFIG_FILE} and *{WEIGHTS_ENDING}")
        return text

    def fetch_weights(self, owner: str = "", local_rank: int = 0) -> NodeFolder:
        """Return the folder itself on a volume; else this node's copy of its weights, index and config.json.

        `owner` and `local_rank` as in `fetch_to_node`. Off a volume, UserMistake when weights are missing: on
        a volume the reader of the weights finds out.
        """
        if self.is_on_volume:
            return self.fetch_to_node(())
        index = self.read(INDEX_FILE)
        known = {CONFIG_FILE: self._config_text()}
        if index is None:
            files = [name for name in self.names() if name.endswith(WEIGHTS_ENDING)] or [WEIGHTS_FILE]
        else:
            known[INDEX_FILE] = index
            files = sorted(set(weight_map(index, self.display_path(INDEX_FILE)).values()))
        found = {name: self.stat(name) for name in files}
        lost = [name for name, seen in found.items() if seen is None]
        if index is not None:
            check_no_missing_files(self.display_path(INDEX_FILE), lost)
        elif lost:
            raise self.user_mistake(f"has no *{WEIGHTS_ENDING}; copy the weights there, too")
        there = [seen for seen in found.values() if seen is not None]
        return self.fetch_to_node(there, known, owner=owner, local_rank=local_rank)


def weight_map(text: bytes, place: str) -> dict[str, str]:
    """Return the file of each tensor from the index at `place`; UserMistake when it is no index."""
    try:
        files = json.loads(text)["weight_map"]
        if not isinstance(files, dict) or not all(isinstance(file, str) for file in files.values()):
            raise TypeError("weight_map is not an object of names")
    except (ValueError, KeyError, TypeError) as error:
        raise UserMistake(f"{place} is not a safetensors index: {error!r}") from error
    outside = sorted({file for file in files.values() if not _NAME.fullmatch(file)})
    if outside:
        raise UserMistake(f"{place} lists files of other folders: {', '.join(outside)}; copy them here")
    return files


def check_no_missing_files(place: str, lost: Iterable[str]) -> None:
    """Raise UserMistake when there are `lost` files, which the index at `place` names."""
    if names := sorted(set(lost)):
        raise UserMistake(f"{place} lists files that are missing: {', '.join(names)}; copy them, too")
