"""Slot of a pod, and the run that it belongs to: from its name, and repeated in its labels.

Every user who may change pods may change their labels, and a name is immutable. So a pod's slot
is in its name, and the operator reverts labels that differ. Only for a spare that has
become a worker the labels decide, which the operator wrote.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from footplate_contracts.names import (
    EPOCH_LABEL,
    INCARNATION_LABEL,
    INDEX_LABEL,
    MANAGED_BY,
    MANAGED_BY_LABEL,
    ROLE_LABEL,
    RUN_LABEL,
    RUN_UID_LABEL,
    Role,
    WorkerId,
)
from footplate_operator.runtime.objects import controller_of

_WORKER: Final = re.compile(r"-w(\d+)-(\d+)")
_SPARE: Final = re.compile(r"-s(\d+)-(\d+)")
_COORDINATOR: Final = re.compile(r"-c(\d+)")


@dataclass(frozen=True)
class PodSlot:
    """Role of a pod, and its slot or epoch."""

    role: str
    index: int = 0
    incarnation: int = 0
    epoch: int = 0
    edited: Mapping[str, str] = field(default_factory=dict)  # labels that say otherwise, as they should be


def slot_labels(role: Role, worker: WorkerId) -> dict[str, str]:
    """Return the labels of role and slot, which change when a spare takes a slot."""
    return {
        ROLE_LABEL: role.value,
        INDEX_LABEL: str(worker.index),
        INCARNATION_LABEL: str(worker.incarnation),
    }


def coordinator_labels(epoch: int) -> dict[str, str]:
    """Return the labels that distinguish a coordinator from other pods of its run."""
    return {ROLE_LABEL: Role.COORDINATOR.value, EPOCH_LABEL: str(epoch)}


def pod_slot(pod: Mapping[str, Any]) -> PodSlot:
    """Return the slot of `pod`, a child of a run."""
    labels, owner = pod["metadata"].get("labels", {}), controller_of(pod)
    run, name = str(owner.get("name", "")), str(pod["metadata"]["name"])
    own = {MANAGED_BY_LABEL: MANAGED_BY, RUN_LABEL: run, RUN_UID_LABEL: str(owner.get("uid", ""))}
    said = name.removeprefix(run)
    if found := _WORKER.fullmatch(said):
        worker = WorkerId(int(found[1]), int(found[2]))
        own |= slot_labels(Role.WORKER, worker)
        return PodSlot(Role.WORKER, *_numbers(worker), edited=_edited(labels, own))
    if found := _COORDINATOR.fullmatch(said):
        own |= coordinator_labels(int(found[1]))
        return PodSlot(Role.COORDINATOR, epoch=int(found[1]), edited=_edited(labels, own))
    if (found := _SPARE.fullmatch(said)) and labels.get(ROLE_LABEL) != Role.WORKER:
        spare = WorkerId(int(found[1]), int(found[2]))
        own |= slot_labels(Role.SPARE, spare)
        return PodSlot(Role.SPARE, *_numbers(spare), edited=_edited(labels, own))
    told = WorkerId(_number(labels, INDEX_LABEL), _number(labels, INCARNATION_LABEL))
    edited = _edited(labels, own) if found else {}
    return PodSlot(labels.get(ROLE_LABEL, ""), *_numbers(told), edited=edited)


def _numbers(worker: WorkerId) -> tuple[int, int]:
    return worker.index, worker.incarnation


def _edited(labels: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in own.items() if labels.get(name) != value}


def _number(labels: Mapping[str, str], key: str) -> int:
    text = labels.get(key, "")
    return int(text) if text.isdigit() else 0
