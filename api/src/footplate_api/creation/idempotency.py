"""Idempotency keys: a request that is sent twice creates one run; pure.

The key is stored in the database before the request to Kubernetes, and on the object itself by the request
that creates it. So a caller who retries, whatever was killed in between, finds either the earlier response or
the created run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from footplate_api.kubernetes.client import Manifest
from footplate_api.labels.run_labels import ASKED_UNDER
from footplate_api.serialization import tolerant_json
from footplate_contracts.names import REQUESTED_BY_ANNOTATION, RUN_NAME_LIMIT

HEADER: Final = "Idempotency-Key"
KEPT: Final = timedelta(hours=24)
_PREFIX: Final = RUN_NAME_LIMIT - 10  # characters of generateName


@dataclass(frozen=True)
class IdempotentRequest:
    """Request of a caller under an idempotency key."""

    caller: str
    namespace: str
    key: str  # a digest of caller and key
    request: str  # a digest of what is asked for

    @property
    def annotation_value(self) -> str:
        """Value of the annotation on the created object."""
        return f"{self.key[:32]}.{self.request[:32]}"

    @property
    def annotations(self) -> dict[str, str]:
        """Annotations of a run that this request created.

        The mark alone proves nothing, as anybody may write it on a run; only this API may write the
        requester.
        """
        return {ASKED_UNDER: self.annotation_value, REQUESTED_BY_ANNOTATION: self.caller}


def build_request(caller: str, key: str, manifest: Mapping[str, Any]) -> IdempotentRequest:
    """Return the request of `caller` for `manifest`, its namespace included."""
    namespace = str(manifest["metadata"]["namespace"])
    return IdempotentRequest(caller, namespace, _digest([caller, key]), _digest(manifest))


def earliest_creation(reserved_at: datetime) -> datetime:
    """Return the earliest creation time of a run that a key reserved at `reserved_at` may stand for.

    It is a day before, not that moment: the key's row may have been lost, and clocks differ.
    """
    return reserved_at - KEPT


def with_annotation(
    manifest: Mapping[str, Any], asking: IdempotentRequest, reserved_at: datetime
) -> dict[str, Any]:
    """Return `manifest` with the annotation of its key, and with a name that the next attempt has, too.

    A key that has expired is a new one: so the name depends on when the key was reserved.
    """
    metadata = dict(manifest["metadata"])
    annotations = metadata.get("annotations")
    if annotations is None or isinstance(
        annotations, dict
    ):  # of anything else Kubernetes says that it is wrong
        metadata["annotations"] = {**(annotations or {}), ASKED_UNDER: asking.annotation_value}
    prefix = metadata.get("generateName")
    if isinstance(prefix, str) and prefix and not metadata.get("name"):
        said = [asking.annotation_value, reserved_at.astimezone(UTC).isoformat()]
        metadata["name"] = prefix[:_PREFIX] + _digest(said)[:10]
    return {**manifest, "metadata": metadata}


def is_created_by(manifest: Manifest, asking: IdempotentRequest, reserved_at: datetime) -> bool:
    """Return whether an earlier attempt created `manifest`, an object in the request's namespace."""
    metadata = manifest["metadata"]
    created = tolerant_json.time_at(metadata, "creationTimestamp")
    if created is None or created < earliest_creation(reserved_at):
        return False
    return asking.annotations.items() <= tolerant_json.mapping(metadata, "annotations").items()


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
