"""The kinds of objects the operator touches, and where the API server keeps them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from footplate_contracts.names import API_VERSION

Json = dict[str, Any]


@dataclass(frozen=True)
class Kind:
    """A resource type; `plural` is its place in URLs."""

    api_version: str
    name: str
    plural: str
    namespaced: bool = True

    def path(self, namespace: str, name: str = "", subresource: str = "") -> str:
        """URL path of the collection, the object, or its subresource."""
        root = "/api" if "/" not in self.api_version else "/apis"
        parts = [root, self.api_version]
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        parts += [part for part in (name, subresource) if part]
        return "/".join(parts)


POD: Final = Kind("v1", "Pod", "pods")
SECRET: Final = Kind("v1", "Secret", "secrets")
CONFIG_MAP: Final = Kind("v1", "ConfigMap", "configmaps")
SERVICE: Final = Kind("v1", "Service", "services")
CORE_EVENT: Final = Kind("v1", "Event", "events")
EVENT: Final = Kind("events.k8s.io/v1", "Event", "events")
LEASE: Final = Kind("coordination.k8s.io/v1", "Lease", "leases")
DISRUPTION_BUDGET: Final = Kind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets")
REVISION: Final = Kind("apps/v1", "ControllerRevision", "controllerrevisions")
TRAINING_RUN: Final = Kind(API_VERSION, "TrainingRun", "trainingruns")
PROFILE: Final = Kind(API_VERSION, "ComputeProfile", "computeprofiles", namespaced=False)

# Children that are found by the run's uid; pods are watched, these are listed now and then.
QUIET_CHILDREN: Final = (SECRET, CONFIG_MAP, SERVICE, DISRUPTION_BUDGET, REVISION)
_ALL: Final = (*QUIET_CHILDREN, POD, EVENT, LEASE, TRAINING_RUN, PROFILE)


def kind_of(body: Json) -> Kind:
    """The Kind of a manifest; KeyError for one that the operator never makes."""
    by_type = {(kind.api_version, kind.name): kind for kind in _ALL}
    return by_type[body["apiVersion"], body["kind"]]
