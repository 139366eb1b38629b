"""Merge of a run's model settings with those of a folder of weights; pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from footplate_contracts.v1alpha1.model import Model, PositionName


def apply_overrides(stated: Model, folder: Model) -> Model:
    """Return the folder's model with `stated`'s context, dropout, initialisation, kernel and adapter.

    It has the larger vocabulary of `stated` too, if that asks to grow: only then `resize_token_embeddings`
    stays.

    Raises ValueError that lists every stated field with which the folder disagrees.
    """
    # A default of the contract counts for nothing: on a cluster nobody sees whether somebody wrote it.
    written = _flat(stated.model_dump(mode="json", by_alias=True, exclude_defaults=True))
    folder = _grown(folder, stated)
    wrong = [
        _disagreement(path, ours, theirs)
        for path, ours, theirs in model_differences(stated, folder)
        if path in written and not is_overridable(path)
    ]
    if folder.position.name is not PositionName.RELATIVE and stated.context_length > folder.context_length:
        wrong.append(
            f"contextLength is {stated.context_length}, in the folder at most {folder.context_length}"
        )
    if wrong:
        raise ValueError("; ".join(wrong))
    attention = folder.attention.model_copy(update={"backend": stated.attention.backend})
    return folder.model_copy(
        update={
            "context_length": stated.context_length,
            "dropout": stated.dropout,
            "initialization": stated.initialization,
            "adapter": stated.adapter,
            "attention": attention,
        }
    )


def _grown(folder: Model, stated: Model) -> Model:
    assert folder.vocabulary_size is not None, "it is resolved"
    if not stated.resize_token_embeddings or (stated.vocabulary_size or 0) <= folder.vocabulary_size:
        return folder
    return folder.model_copy(
        update={"vocabulary_size": stated.vocabulary_size, "resize_token_embeddings": True}
    )


def _disagreement(path: str, ours: Any, theirs: Any) -> str:
    remedy = "; resizeTokenEmbeddings adds the rows" if path == "vocabularySize" and ours > theirs else ""
    return f"{path} is {_shown(ours)}, in the folder {_shown(theirs)}{remedy}"


def model_differences(ours: Model, theirs: Model) -> list[tuple[str, Any, Any]]:
    """Return (path, ours, theirs) of each field in which two models differ."""
    left, right = _flat(ours.to_json()), _flat(theirs.to_json())
    return [
        (path, left.get(path), right.get(path))
        for path in sorted({*left, *right})
        if left.get(path) != right.get(path)
    ]


def is_overridable(path: str) -> bool:
    """Return whether a field configures training, and does not describe the weights."""
    return path in ("contextLength", "resizeTokenEmbeddings") or path.startswith(
        ("dropout.", "initialization.", "attention.backend", "adapter.")
    )


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        leaves |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return leaves


def _shown(value: object) -> str:
    return "absent" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
