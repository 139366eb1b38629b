"""What somebody changed by hand of a run's children, and what sets it right.

The operator owns what it says of a child: its labels and its content, and nothing that others
add. Whatever of that differs is made as it was, within seconds: a pod's labels in place, any
other child anew, as most of them cannot be changed. An Event tells of it. Where that does not
last, something else writes there as well, and a condition says so.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from footplate_contracts.model import digest
from footplate_contracts.names import (
    API_CA_FILE,
    MANAGED_BY_LABEL,
    RUN_CONFIG_FILE,
    RUN_LABEL,
    RUN_UID_LABEL,
    Reason,
)
from footplate_operator.runtime.decision import Patch, Problem, Replace
from footplate_operator.runtime.events import Event
from footplate_operator.runtime.kinds import (
    CONFIG_MAP,
    DISRUPTION_BUDGET,
    NETWORK_POLICY,
    REVISION,
    SERVICE,
    Json,
    Kind,
)
from footplate_operator.runtime.objects import Child
from footplate_operator.trainingrun.observed import PodView

OFTEN: Final = 3  # times that a child is made anew within ten minutes; then somebody else insists
_PORT: Final = ("name", "port", "targetPort")
_LABELS: Final = (MANAGED_BY_LABEL, RUN_LABEL, RUN_UID_LABEL)


@dataclass(frozen=True)
class Wanted:
    """A child other than a pod, as it should be."""

    kind: Kind
    name: str
    build: Callable[[], Json]


def essence(kind: Kind, body: Mapping[str, Any]) -> str:
    """A digest of what the operator says of a child, whatever the API server and others add to it."""
    labels = body["metadata"].get("labels", {})
    said = {"labels": {name: labels.get(name) for name in _LABELS}, "content": _content(kind, body)}
    return digest(_plain(said))


def set_right(
    edited: Sequence[tuple[Child, Json]], pods: Sequence[PodView]
) -> tuple[tuple[Replace | Patch, ...], tuple[Event, ...]]:
    """The changes that undo what was edited, and what is told of them."""
    anew = [Replace(child, manifest) for child, manifest in edited]
    labelled = [pod for pod in pods if pod.edited_labels and pod.live]
    patches = [
        Patch(pod, {"metadata": {"labels": dict(pod.edited_labels)}}, verb="setting back the labels of")
        for pod in labelled
    ]
    told = [_told(change.child, "it was made anew") for change in anew]
    told += [_told(pod, f"set back: {_list(pod.edited_labels)}") for pod in labelled]
    return (*anew, *patches), tuple(told)


def renewed(wanted: Sequence[Wanted], children: Sequence[Child]) -> tuple[Replace, ...]:
    """What brings those children up to date that change while a run trains, whoever changed them."""
    there = {(child.kind, child.name): child for child in children if not child.terminating}
    found = [(there.get((want.kind, want.name)), want) for want in wanted]
    return tuple(
        Replace(child, want.build())
        for child, want in found
        if child is not None and child.essence != essence(want.kind, want.build())
    )


def insisted_on(child: Child) -> Problem:
    """Somebody changes `child` again and again."""
    message = (
        f"{child.kind.name} {child.name} is not as Footplate makes it, and was made anew {OFTEN} times within"
        " ten minutes: find out what writes it (kubectl get -o yaml --show-managed-fields), and stop that"
    )
    return Problem(Reason.CHILD_CONFLICT, message)


def _told(child: Child, what: str) -> Event:
    note = f"{child.kind.name} {child.name} was changed by hand; {what}. Change the TrainingRun instead"
    return Event(Reason.CHILD_EDITED, note, warning=True, once=f"{child.uid}{child.version}")


def _list(labels: Mapping[str, str]) -> str:
    return ", ".join(f"label {name} = {value}" for name, value in sorted(labels.items()))


def _content(kind: Kind, body: Mapping[str, Any]) -> object:
    spec = body.get("spec", {})
    if kind == CONFIG_MAP:
        data = body.get("data") or {}
        return [_parsed(data.get(RUN_CONFIG_FILE, "")), data.get(API_CA_FILE)]
    if kind == SERVICE:
        ports = [[port.get(name) for name in _PORT] for port in spec.get("ports", [])]
        return [spec.get("selector"), spec.get("publishNotReadyAddresses"), ports]
    if kind == DISRUPTION_BUDGET:
        return [spec.get("maxUnavailable"), spec.get("minAvailable"), spec.get("selector")]
    if kind == NETWORK_POLICY:
        return [spec.get(name) for name in ("podSelector", "policyTypes", "ingress", "egress")]
    if kind == REVISION:
        return [body.get("revision"), body.get("data")]
    return None


def _parsed(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _plain(value: object) -> object:
    """`value` with whole numbers as the API server gives them back."""
    if isinstance(value, dict):
        return {name: _plain(member) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(member) for member in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
