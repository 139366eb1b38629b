"""Where pods of a run should be: apart from each other, and never on some nodes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from footplate_contracts.names import Role, RunUid
from footplate_operator.runtime.kinds import Json
from footplate_operator.trainingrun.metadata import match_role

HOSTNAME: Final = "kubernetes.io/hostname"


def affinity(uid: RunUid, apart: Mapping[Role, int], never: Iterable[str]) -> Json:
    """Prefer nodes without pods of the roles `apart`, by weight up to 100; use none of the nodes `never`."""
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
    found: Json = {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}}
    fields = [
        {"key": "metadata.name", "operator": "NotIn", "values": [node]}  # takes one value only
        for node in dict.fromkeys(never)
    ]
    if fields:
        found["nodeAffinity"] = {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchFields": fields}]}
        }
    return found
