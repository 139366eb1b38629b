"""Kinds of objects, and their URL paths on the API server."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

Json = dict[str, Any]


@dataclass(frozen=True)
class Kind:
    """A resource type; `plural` is its name in URLs."""

    api_version: str
    name: str
    plural: str
    namespaced: bool = True

    @property
    def group(self) -> str:
        """The API group; empty for the core's."""
        return self.api_version.rpartition("/")[0]

    def path(self, namespace: str, name: str = "", subresource: str = "") -> str:
        """Return the URL path of the collection, the object, or its subresource.

        Names are quoted: some are chosen by a pod, and must not lead elsewhere.
        """
        root = "/api" if "/" not in self.api_version else "/apis"
        parts = [root, self.api_version]
        if self.namespaced and namespace:
            parts += ["namespaces", quote(namespace, safe="")]
        parts.append(self.plural)
        parts += [quote(part, safe="") for part in (name, subresource) if part]
        return "/".join(parts)


POD: Final = Kind("v1", "Pod", "pods")
NODE: Final = Kind("v1", "Node", "nodes", namespaced=False)
SECRET: Final = Kind("v1", "Secret", "secrets")
CONFIG_MAP: Final = Kind("v1", "ConfigMap", "configmaps")
SERVICE: Final = Kind("v1", "Service", "services")
CORE_EVENT: Final = Kind("v1", "Event", "events")
EVENT: Final = Kind("events.k8s.io/v1", "Event", "events")
LEASE: Final = Kind("coordination.k8s.io/v1", "Lease", "leases")
DISRUPTION_BUDGET: Final = Kind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets")
NETWORK_POLICY: Final = Kind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies")
PRIORITY_CLASS: Final = Kind("scheduling.k8s.io/v1", "PriorityClass", "priorityclasses", namespaced=False)
JOB: Final = Kind("batch/v1", "Job", "jobs")
REVISION: Final = Kind("apps/v1", "ControllerRevision", "controllerrevisions")


def kind_of(manifest: Json, kinds: Iterable[Kind]) -> Kind:
    """Return the kind of `manifest` among `kinds`; raises KeyError for any other."""
    by_type = {(kind.api_version, kind.name): kind for kind in kinds}
    return by_type[manifest["apiVersion"], manifest["kind"]]
