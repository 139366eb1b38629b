"""Derives the labels and properties by which runs are found; pure.

Beside a run's labels these are other values by which a list is filtered: they are in the spec or the
annotations, and are stored under names that no label can have.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

from footplate_api.serialization import tolerant_json
from footplate_contracts.names import GROUP

LONGEST_VALUE: Final = 253  # characters; of what is longer, the beginning
_LONGEST_KEY: Final = 317  # a prefix of 253, a slash, a name of 63
_REQUESTED_BY: Final = f"{GROUP}/requested-by"
ASKED_UNDER: Final = f"{GROUP}/idempotency-key"  # an annotation of runs that were created under one


class RunProperty(StrEnum):
    """A property stored beside the labels; its key has a colon, which no label's key has."""

    PROFILE = ":profile"
    QUEUE = ":queue"
    REQUESTED_BY = ":requested-by"
    ASKED_UNDER = ":idempotency-key"


def derive_labels(asked: Mapping[str, Any]) -> dict[str, str]:
    """Return key -> value of a run with these `derive_labels`, `annotations` and `spec`."""
    given = tolerant_json.mapping(asked, "labels")
    found: dict[str, str | None] = {
        key[:_LONGEST_KEY]: tolerant_json.text(given, key, LONGEST_VALUE) for key in given if key[:1] != ":"
    }
    spec, annotations = tolerant_json.mapping(asked, "spec"), tolerant_json.mapping(asked, "annotations")
    found[RunProperty.PROFILE] = tolerant_json.text(
        tolerant_json.mapping(spec, "compute"), "profile", LONGEST_VALUE
    )
    found[RunProperty.QUEUE] = tolerant_json.text(spec, "queue", LONGEST_VALUE)
    found[RunProperty.REQUESTED_BY] = tolerant_json.text(annotations, _REQUESTED_BY, LONGEST_VALUE)
    found[RunProperty.ASKED_UNDER] = tolerant_json.text(annotations, ASKED_UNDER, LONGEST_VALUE)
    return {_sane(str(key)): value for key, value in found.items() if value is not None}


def spec_digest(asked: Mapping[str, Any]) -> str:
    """Return a digest that differs if the labels, annotations or spec of a run differ."""
    kept = {name: asked[name] for name in ("labels", "annotations", "spec")}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def _sane(key: str) -> str:
    return key.replace("\0", "").encode("utf-8", "replace").decode()
