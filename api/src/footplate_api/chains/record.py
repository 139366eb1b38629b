"""What the statuses of runs say of other runs -> rows of ours; pure, and lenient as runs.record is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from footplate_api import lenient
from footplate_api.ports import Manifest
from footplate_contracts.v1alpha1.types import CHECKPOINT_URI_LIMIT

_UID: Final = 64
_NAME: Final = 253
_FIELD: Final = 63


def rows(manifests: Iterable[Manifest]) -> list[dict[str, Any]]:
    """Column -> value for the table `run_references`, one for each run and field.

    Runs are those that runs.record could read. An entry without field, uid, name or uri is left out, and so
    is a run that names itself.
    """
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for manifest in manifests:
        uid = manifest["metadata"]["uid"]
        for entry in lenient.items(lenient.mapping(manifest, "status"), "lineage"):
            said = {
                "field": lenient.text(entry, "field", _FIELD),
                "other_uid": lenient.text(entry, "uid", _UID),
                "other_name": lenient.text(entry, "run", _NAME),
                "uri": lenient.text(entry, "uri", CHECKPOINT_URI_LIMIT),
            }
            if all(said.values()) and said["other_uid"] != uid:
                rest = {"step": lenient.whole(entry, "step"), "digest": lenient.text(entry, "digest", 64)}
                found[uid, str(said["field"])] = {"run_uid": uid, **said, **rest}
    return list(found.values())
