"""Converts the attempts in run statuses into rows; pure, and as tolerant of bad input as runs.record."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from footplate_api.kubernetes.client import Manifest
from footplate_api.serialization import tolerant_json


def rows(manifests: Iterable[Manifest]) -> list[dict[str, Any]]:
    """Return column -> value for the table `attempts`, one row for each attempt in `manifests`.

    `manifests` are in the order in which they were reported: the last report of an attempt wins. runs.record
    has accepted the runs; an attempt without a positive number is left out.
    """
    last: dict[tuple[str, int], dict[str, Any]] = {}
    for manifest in manifests:
        metadata = manifest["metadata"]
        uid, version = metadata["uid"], int(metadata["resourceVersion"])
        for attempt in tolerant_json.items(tolerant_json.mapping(manifest, "status"), "attempts"):
            number = tolerant_json.get_int(attempt, "number")
            if number is not None and number > 0:
                last[uid, number] = _row(uid, number, version, attempt)
    return list(last.values())


def _row(uid: str, number: int, version: int, attempt: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "run_uid": uid,
        "number": number,
        "resource_version": version,
        "start": tolerant_json.time_at(attempt, "start"),
        "end": tolerant_json.time_at(attempt, "end"),
        "nodes": tolerant_json.get_int(attempt, "nodes") or 0,
        "incarnation": tolerant_json.get_int(attempt, "incarnation"),
        "generation": tolerant_json.text(attempt, "generation") or "",
        "start_step": tolerant_json.get_int(attempt, "startStep") or 0,
        "end_step": tolerant_json.get_int(attempt, "endStep"),
        "cause": tolerant_json.text(attempt, "cause", 64),
        "reason": tolerant_json.text(attempt, "reason", 64) or "",
        "node": tolerant_json.text(attempt, "node", 253) or "",
        "rank": tolerant_json.get_int(attempt, "rank"),
        "exit_code": tolerant_json.get_int(attempt, "exitCode"),
        "message": tolerant_json.text(attempt, "message", 1024) or "",
        "lost_steps": tolerant_json.get_int(attempt, "lostSteps") or 0,
    }
