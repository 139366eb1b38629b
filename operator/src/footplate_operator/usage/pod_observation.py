"""A Pod's observed use: node, binding time, requests and end; pure.

All times are Kubernetes' own. A pod counts from when the scheduler bound it until its containers have ended.
A pod that its kubelet refused, or that was evicted before it began, has no container that ended: the last
transition of its conditions is the end. A pod whose node is lost has not ended, since nothing reports an end.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Final

from footplate_contracts.names import PROFILE_LABEL, ROLE_LABEL
from footplate_contracts.quantity import parse_quantity
from footplate_ledger.conversion import parse_time

CPU: Final = "cpu"
_MILLI: Final = 1000
_MOST: Final = 2.0**63  # as the API server has it
_OVER: Final = ("Succeeded", "Failed")
_SCHEDULED: Final = "PodScheduled"


@dataclass(frozen=True)
class PodObservation:
    """A version of a Pod; seconds since 1970."""

    uid: str = ""
    name: str = ""
    role: str = ""  # what it is to its owner
    profile: str = ""  # ComputeProfile that it was made by; empty: none is said
    node: str = ""  # name; empty: it is bound to none
    requests: Mapping[str, Fraction] = field(default_factory=dict)  # by resource, of all its containers
    bound: int = 0
    over: bool = False  # its containers have ended, or will never begin
    ended: int | None = None  # when, where Kubernetes says so


def observe_pod(body: Mapping[str, Any], role: str, profile: str) -> PodObservation:
    """Return the observed fields of a Pod, whose role and profile its kind knows."""
    metadata, spec, status = body["metadata"], body.get("spec", {}), body.get("status", {})
    ends = _ends(spec, status)
    over = status.get("phase") in _OVER or ends is not None
    return PodObservation(
        uid=metadata["uid"],
        name=metadata["name"],
        role=role,
        profile=profile,
        node=spec.get("nodeName", ""),
        requests=_requests(spec),
        bound=_bound(metadata, status),
        over=over,
        ended=(_last(ends) if ends else _without_containers(metadata, status)) if over else None,
    )


def observe_labelled_pod(body: Mapping[str, Any]) -> PodObservation:
    """Return the observed fields of a Pod whose labels are its role and profile."""
    labels = body["metadata"].get("labels", {})
    return observe_pod(body, labels.get(ROLE_LABEL, ""), labels.get(PROFILE_LABEL, ""))


def _bound(metadata: Mapping[str, Any], status: Mapping[str, Any]) -> int:
    """Return when a node was bound to the pod; else when its kubelet accepted it, or its creation."""
    times = [
        condition.get("lastTransitionTime")
        for condition in status.get("conditions") or []
        if condition.get("type") == _SCHEDULED and condition.get("status") == "True"
    ]
    told = next(filter(None, [*times, status.get("startTime")]), metadata["creationTimestamp"])
    return parse_time(told)


def _ends(spec: Mapping[str, Any], status: Mapping[str, Any]) -> list[str] | None:
    """Return the end times of its containers, init containers included; None while one has not ended."""
    main = status.get("containerStatuses") or []
    if not main or len(main) < len(spec.get("containers", ())):
        return None
    if not all(_finished(shown) for shown in main):
        return None
    if any("running" in shown.get("state", {}) for shown in status.get("initContainerStatuses") or ()):
        return None  # a sidecar, which ends after the others
    others = [*(status.get("initContainerStatuses") or []), *(status.get("ephemeralContainerStatuses") or [])]
    return [told for shown in (*main, *others) if (told := _finished(shown))]


def _finished(shown: Mapping[str, Any]) -> str:
    ended = shown.get("state", {}).get("terminated") or {}
    return str(ended.get("finishedAt") or "")


def _without_containers(metadata: Mapping[str, Any], status: Mapping[str, Any]) -> int | None:
    """Return the end of a pod some of whose containers have no end time; None if unknown."""
    shown = [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
    times = [
        *filter(None, map(_finished, shown)),
        *(
            condition["lastTransitionTime"]
            for condition in status.get("conditions") or []
            if condition.get("type") != _SCHEDULED and condition.get("lastTransitionTime")
        ),
    ]
    if not times and (refused := status.get("startTime") or metadata.get("deletionTimestamp")):
        times.append(refused)
    return _last(times) if times else None


def _last(times: Iterable[str]) -> int:
    return max(map(parse_time, times))


def _requests(spec: Mapping[str, Any]) -> dict[str, Fraction]:
    """Return CPU and extended resources of a pod, as the scheduler counts them.

    Containers and sidecars run together; an init container runs beside the sidecars that began before it.
    """
    total = _sum(map(_asked, spec.get("containers", ())))
    before: dict[str, Fraction] = {}  # of sidecars that have begun
    most: dict[str, Fraction] = {}  # while the pod is prepared
    for container in spec.get("initContainers") or ():
        asked = _asked(container)
        if container.get("restartPolicy") == "Always":
            total, before = _sum((total, asked)), _sum((before, asked))
            asked = {}
        for name, amount_of in _sum((before, asked)).items():
            most[name] = max(most.get(name, amount_of), amount_of)
    return {
        name: max(total.get(name, Fraction(0)), most.get(name, Fraction(0))) for name in {**total, **most}
    }


def _sum(parts: Iterable[Mapping[str, Fraction]]) -> dict[str, Fraction]:
    found: dict[str, Fraction] = {}
    for part in parts:
        for name, quantity in part.items():
            found[name] = found.get(name, Fraction(0)) + quantity
    return found


def _asked(container: Mapping[str, Any]) -> dict[str, Fraction]:
    """Return a container's requests; a limit without a request is one, as on the API server."""
    resources = container.get("resources") or {}
    asked = {**(resources.get("limits") or {}), **(resources.get("requests") or {})}
    return {name: quantity_of(quantity) for name, quantity in asked.items() if name == CPU or "/" in name}


def quantity_of(quantity: object) -> Fraction:
    """Return the number in a Kubernetes quantity, to the thousandth; 0 for an invalid one.

    >>> quantity_of("1500m"), quantity_of(8)
    (Fraction(3, 2), Fraction(8, 1))
    """
    return Fraction(round(min(parse_quantity(quantity) or 0.0, _MOST) * _MILLI), _MILLI)
