"""Converts the lineage in run statuses into rows; pure, and as tolerant of bad input as runs.record."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from footplate_api.kubernetes.client import Manifest
from footplate_api.serialization import tolerant_json
from footplate_contracts.v1alpha1.types import CHECKPOINT_URI_LIMIT

_UID: Final = 64
_NAME: Final = 253
_FIELD: Final = 63


def rows(manifests: Iterable[Manifest]) -> list[dict[str, Any]]:
    """Return column -> value for the table `run_references`, one row for each run and field.

    runs.record has accepted the runs. An entry without field, uid, name or uri is left out, and so
    is a run that references itself.
    """
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for manifest in manifests:
        uid = manifest["metadata"]["uid"]
        for entry in tolerant_json.items(tolerant_json.mapping(manifest, "status"), "lineage"):
            said = {
                "field": tolerant_json.text(entry, "field", _FIELD),
                "other_uid": tolerant_json.text(entry, "uid", _UID),
                "other_name": tolerant_json.text(entry, "run", _NAME),
                "uri": tolerant_json.text(entry, "uri", CHECKPOINT_URI_LIMIT),
            }
            if all(said.values()) and said["other_uid"] != uid:
                rest = {
                    "step": tolerant_json.get_int(entry, "step"),
                    "digest": tolerant_json.text(entry, "digest", 64),
                }
                found[uid, str(said["field"])] = {"run_uid": uid, **said, **rest}
    return list(found.values())
