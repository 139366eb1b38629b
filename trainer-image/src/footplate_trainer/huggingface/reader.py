"""Reads weights from a folder of safetensors in slices: no rank needs more than its own rows."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from footplate_contracts.v1alpha1.model import Family, Model, PositionName
from footplate_planning.config import shape_of
from footplate_trainer.errors import UserMistake
from footplate_trainer.huggingface.folder import CONFIG_FILE, INDEX_FILE, check_no_missing_files, weight_map
from footplate_trainer.huggingface.tensor_names import Naming, ParameterLocation, naming, parameter_locations
from footplate_trainer.storage import join

_OF_VOCABULARY = frozenset({"embedding.weight", "head.weight", "head_bias"})
_SLICE = 1024  # rows of a mean that are in memory at once
_OLD_NAMES = {".gamma": ".weight", ".beta": ".bias"}  # of norms, in files older than transformers 3


class FolderReader:
    """The tensors in one model's folder under our names."""

    def __init__(
        self,
        folder: Path,
        model: Model,
        parameters: Iterable[str],
        place: str | None = None,
        *,
        headless: bool = False,
    ) -> None:
        """Open the folder; `parameters` are our names for all of `model`, which is the folder's own network.

        `place` is the location of which `folder` is a copy. `headless`: a head over the vocabulary is
        ignored. Raises UserMistake that lists missing and surplus tensors, and UserMistake that names a file
        which is no safetensors.
        """
        assert model.family is not None, "resolve_model fills this in"
        shape = shape_of(model)
        table = naming(model.family, shape)
        self._folder = folder
        self._name = place or str(folder)
        self._vocabulary = shape.vocabulary
        self._longer = {"positions.weight"} if model.position.name is PositionName.LEARNED else set()
        self._files = self._index(table)
        self._places = parameter_locations(model.family, shape, parameters)
        if (
            model.family is Family.T5
            and "lm_head.weight" not in self._files
            and "head.weight" in self._places
        ):
            # What transformers 5 wrote of a T5 without scaling: its head is the embedding.
            self._places["head.weight"] = self._places["embedding.weight"]
        self._compare(table, any_head=headless or bool(model.tied_embeddings))

    def rows(self, name: str, size: Sequence[int], first: int, rows: int) -> Tensor:
        """Return rows first … first + rows - 1 of our parameter `name`, which has `size` in all.

        Where that has more rows than the folder's vocabulary, the others are the mean of all the folder's
        rows, in fp32. Raises UserMistake when the folder's tensor is of another size.
        """
        place = self._places[name]
        file, stored = self._files[place.name]
        held = size[0]
        if name in _OF_VOCABULARY:
            held = min(held, self._vocabulary)
        with self._opened(file) as opened:
            whole = opened.get_slice(stored)
            self._check(name, place, list(whole.get_shape()), [held, *size[1:]])
            kept = max(0, min(rows, held - first))
            start = place.part * held + min(first, held - kept)
            part: Tensor = whole[:, start : start + kept] if place.transposed else whole[start : start + kept]
            if kept < rows:
                mean = _mean_row(whole, held)
                part = torch.cat([part.float(), mean.expand(rows - kept, *mean.shape)])
            return part.T if place.transposed else part

    def _check(self, name: str, place: ParameterLocation, found: list[int], size: list[int]) -> None:
        found = found[::-1] if place.transposed else found
        expected = [size[0] * place.parts, *size[1:]]
        if found == expected or (
            name in self._longer and found[0] > expected[0] and found[1:] == expected[1:]
        ):
            return
        raise UserMistake(
            f"{place.name} in {self._name} has the shape {found}, but {CONFIG_FILE} implies {expected}"
        )

    def _index(self, table: Naming) -> dict[str, tuple[str, str]]:
        """Return the file of each tensor, and its name there, by its name in a whole model."""
        stored = dict(self._stored())
        bare = bool(table.prefix) and not any(name.startswith(table.prefix) for name in stored)
        return {_modern(name, table.prefix if bare else ""): (file, name) for name, file in stored.items()}

    def _stored(self) -> Iterable[tuple[str, str]]:
        index = self._folder / INDEX_FILE
        if index.is_file():
            yield from self._indexed(index)
            return
        files = sorted(self._folder.glob("*.safetensors"))
        if not files:
            raise UserMistake(f"{self._name} has no *.safetensors")
        for file in files:
            with self._opened(file.name) as opened:
                yield from ((name, file.name) for name in opened.keys())  # noqa: SIM118 - no mapping

    def _indexed(self, index: Path) -> Iterable[tuple[str, str]]:
        place = join(self._name, INDEX_FILE)
        files = weight_map(index.read_bytes(), place)
        check_no_missing_files(
            place, (file for file in files.values() if not (self._folder / file).is_file())
        )
        return files.items()

    @contextmanager
    def _opened(self, file: str) -> Iterator[Any]:
        """Open a safetensors file of the folder; UserMistake for a truncated file or another format."""
        try:
            with safe_open(self._folder / file, framework="pt") as opened:
                yield opened
        except SafetensorError as error:
            raise UserMistake(f"{join(self._name, file)} is not a safetensors file: {error}") from error

    def _compare(self, table: Naming, any_head: bool) -> None:
        wanted = {place.name for place in self._places.values()}
        twins = {f"{table.modules['head'].name}.weight"} if any_head else set()
        missing = sorted(wanted - set(self._files))
        surplus = sorted(
            name for name in set(self._files) - wanted - twins if not re.fullmatch(table.other, name)
        )
        listed = (("missing", missing), ("surplus", surplus))
        told = "; ".join(f"{what}: {', '.join(names)}" for what, names in listed if names)
        if told:
            raise UserMistake(f"the tensors in {self._name} do not match its {CONFIG_FILE}; {told}")


def _mean_row(whole: Any, rows: int) -> Tensor:
    """Return the mean over `rows` rows of a stored tensor: fp32, without its first dimension.

    Every rank that needs it reads the rows, some at a time. The sum is in fp64, so that rounding removes the
    influence of a rank's number of threads.
    """
    total = torch.zeros((), dtype=torch.float64)
    for first in range(0, rows, _SLICE):
        total = total + whole[first : first + _SLICE].double().sum(0)
    return (total / rows).float()


def _modern(name: str, prefix: str) -> str:
    for old, new in _OLD_NAMES.items():
        if name.endswith(old):
            name = name.removesuffix(old) + new
    return prefix + name


def json_bytes(value: Any) -> bytes:
    """Return JSON in the format of transformers."""
    return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()
