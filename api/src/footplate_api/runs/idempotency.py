"""Asking twice and getting one run: what a caller's `Idempotency-Key` stands for; pure.

The key is noted in the database before Kubernetes is asked, and on the object itself by the same
request that creates it. So whoever asks again, whatever was killed in between, finds either the answer
that was given or the run that was made.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from footplate_api.labels.derived import ASKED_UNDER
from footplate_api.ports import Manifest
from footplate_contracts.names import RUN_NAME_LIMIT

HEADER: Final = "Idempotency-Key"
KEPT: Final = timedelta(hours=24)
_PREFIX: Final = RUN_NAME_LIMIT - 10  # characters of generateName


@dataclass(frozen=True)
class Asking:
    """What somebody asks for under a key, as digests."""

    key: str  # of caller and key
    request: str  # of what is asked for

    @property
    def mark(self) -> str:
        """What the object says of it."""
        return f"{self.key[:32]}.{self.request[:32]}"


def asking(caller: str, key: str, manifest: Mapping[str, Any]) -> Asking:
    """What `caller` asks for by `manifest`, its namespace included."""
    return Asking(_digest([caller, key]), _digest(manifest))


def marked(manifest: Mapping[str, Any], asking: Asking) -> dict[str, Any]:
    """`manifest` as it is created: it says under which key, and has a name that the next attempt has, too."""
    metadata = dict(manifest["metadata"])
    annotations = metadata.get("annotations")
    if annotations is None or isinstance(
        annotations, dict
    ):  # of anything else Kubernetes says that it is wrong
        metadata["annotations"] = {**(annotations or {}), ASKED_UNDER: asking.mark}
    prefix = metadata.get("generateName")
    if isinstance(prefix, str) and prefix and not metadata.get("name"):
        metadata["name"] = prefix[:_PREFIX] + asking.mark[:10]
    return {**manifest, "metadata": metadata}


def is_marked(manifest: Manifest, asking: Asking) -> bool:
    """Whether an object was created by an earlier attempt."""
    return (manifest["metadata"].get("annotations") or {}).get(ASKED_UNDER) == asking.mark


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
