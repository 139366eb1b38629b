"""Finds and reverts manual changes to a run's children.

The operator owns its labels and content in a child, and nothing that others
add. It reverts any difference within seconds: a pod's labels in place, any
other child by replacing it, as most of them are immutable. An Event reports it. If the change
comes back, another program writes the child as well, and a condition says so.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from footplate_contracts.base import digest
from footplate_contracts.names import (
    API_CA_FILE,
    MANAGED_BY_LABEL,
    RUN_CONFIG_FILE,
    RUN_LABEL,
    RUN_UID_LABEL,
    Reason,
)
from footplate_operator.runtime.decision import Patch, ReconcileProblem, Replace
from footplate_operator.runtime.events import ObjectEvent
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
from footplate_operator.trainingrun.observation import PodView

OFTEN: Final = 3  # times that a child is made anew within ten minutes; then somebody else insists
_PORT: Final = ("name", "port", "targetPort")
_LABELS: Final = (MANAGED_BY_LABEL, RUN_LABEL, RUN_UID_LABEL)


@dataclass(frozen=True)
class DesiredChild:
    """Desired state of a child other than a pod."""

    kind: Kind
    name: str
    build: Callable[[], Json]


def content_digest(kind: Kind, body: Mapping[str, Any]) -> str:
    """Return a digest of the operator's part of a child, whatever the API server and others add to it."""
    labels = body["metadata"].get("labels", {})
    said = {"labels": {name: labels.get(name) for name in _LABELS}, "content": _content(kind, body)}
    return digest(_plain(said))


def revert_edits(
    edited: Sequence[tuple[Child, Json]], pods: Sequence[PodView]
) -> tuple[tuple[Replace | Patch, ...], tuple[ObjectEvent, ...]]:
    """Return the changes that revert manual edits, and the Events that report them."""
    anew = [Replace(child, manifest) for child, manifest in edited]
    labelled = [pod for pod in pods if pod.edited_labels and pod.live]
    patches = [
        Patch(pod, {"metadata": {"labels": dict(pod.edited_labels)}}, verb="reverting the labels of")
        for pod in labelled
    ]
    told = [_told(change.child, "it was recreated") for change in anew]
    told += [_told(pod, f"reverted: {_list(pod.edited_labels)}") for pod in labelled]
    return (*anew, *patches), tuple(told)


def build_updates(wanted: Sequence[DesiredChild], children: Sequence[Child]) -> tuple[Replace, ...]:
    """Return the replacements of children that change while a run trains and are out of date."""
    there = {(child.kind, child.name): child for child in children if not child.terminating}
    found = [(there.get((want.kind, want.name)), want) for want in wanted]
    return tuple(
        Replace(child, want.build())
        for child, want in found
        if child is not None and child.essence != content_digest(want.kind, want.build())
    )


def build_conflict_problem(child: Child) -> ReconcileProblem:
    """Return the problem of a `child` that another program changes again and again."""
    message = (
        f"{child.kind.name} {child.name} keeps changing, and was recreated {OFTEN} times within ten minutes:"
        " find what else writes it (kubectl get -o yaml --show-managed-fields), and stop it"
    )
    return ReconcileProblem(Reason.CHILD_CONFLICT, message)


def _told(child: Child, what: str) -> ObjectEvent:
    note = f"{child.kind.name} {child.name} was changed by hand; {what}. Change the TrainingRun instead"
    return ObjectEvent(Reason.CHILD_EDITED, note, warning=True, once=f"{child.uid}{child.version}")


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
    """Return `value` with whole numbers as integers, as the API server returns them."""
    if isinstance(value, dict):
        return {name: _plain(member) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(member) for member in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
