"""Affinity of a run's pods: apart from each other, and never on avoided nodes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from footplate_contracts.names import Role, RunUid
from footplate_contracts.v1alpha1.placement import HOSTNAME
from footplate_operator.runtime.kinds import Json
from footplate_operator.trainingrun.metadata import match_role
from footplate_operator.trainingrun.packing import TargetDomain

_DURING_SCHEDULING: Final = "DuringSchedulingIgnoredDuringExecution"


def affinity(
    uid: RunUid, apart: Mapping[Role, int], never: Iterable[str], target: TargetDomain | None = None
) -> Json:
    """Prefer nodes without pods of the roles `apart`, by weight up to 100; exclude the nodes `never`.

    A pod whose gang is packed goes to its `target`.
    """
    preferred = [
        {
            "weight": weight,
            "podAffinityTerm": {
                "topologyKey": HOSTNAME,
                "labelSelector": {"matchLabels": match_role(uid, role)},
            },
        }
        for role, weight in apart.items()
    ]
    found: Json = {"podAntiAffinity": {f"preferred{_DURING_SCHEDULING}": preferred}}
    fields = [
        {"key": "metadata.name", "operator": "NotIn", "values": [node]}  # takes one value only
        for node in dict.fromkeys(never)
    ]
    wanted = _required(target)
    term: Json = {"matchFields": fields} if fields else {}
    term |= {"matchExpressions": wanted} if wanted else {}
    nodes: Json = {f"required{_DURING_SCHEDULING}": {"nodeSelectorTerms": [term]}} if term else {}
    if rather := _preferred(target):
        preference = {"weight": 100, "preference": {"matchExpressions": rather}}
        nodes[f"preferred{_DURING_SCHEDULING}"] = [preference]
    if nodes:
        found["nodeAffinity"] = nodes
    return found


def select_domain(target: TargetDomain | None) -> dict[str, str]:
    """Return the node labels that a pod needs to be in its gang's domain."""
    if target is None or not target.pack.required or not target.domain:
        return {}
    return {target.pack.topology_key: target.domain}


def _required(target: TargetDomain | None) -> list[Json]:
    """Require the topology label for a packed gang's first worker, whose node chooses the domain."""
    if target is None or not target.pack.required or target.domain:
        return []
    return [{"key": target.pack.topology_key, "operator": "Exists"}]


def _preferred(target: TargetDomain | None) -> list[Json]:
    if target is None or (target.pack.required and target.domain):
        return []
    key = target.pack.topology_key
    if target.domain:
        return [{"key": key, "operator": "In", "values": [target.domain]}]
    return [{"key": key, "operator": "NotIn", "values": sorted(target.avoided)}] if target.avoided else []
