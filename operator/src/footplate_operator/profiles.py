"""ComputeProfiles: decoded, checked for contradictions, and cached from the watch and from reads.

The CRD's rules check fields with a schema; quantities of `resources` have none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from footplate_contracts.names import API_VERSION, Reason
from footplate_contracts.quantity import parse_quantity
from footplate_contracts.v1alpha1.computeprofile import ComputeProfileSpec
from footplate_operator.runtime.cluster import Cluster
from footplate_operator.runtime.decision import ReconcileProblem
from footplate_operator.runtime.kinds import Json, Kind
from footplate_operator.runtime.objects import Undecodable, read

PROFILE: Final = Kind(API_VERSION, "ComputeProfile", "computeprofiles", namespaced=False)
_GIBIBYTE: Final = 1024.0**3


def decode_profile(body: Mapping[str, Any]) -> ComputeProfileSpec:
    """Decode the spec of a ComputeProfile object; raise Undecodable."""
    return read(ComputeProfileSpec, body.get("spec", {}))


def contradiction(profile: ComputeProfileSpec) -> str:
    """Return two fields of the profile that contradict each other, with the remedy; empty for none."""
    requests, limits = _part(profile, "requests"), _part(profile, "limits")
    for field, resource, count in _devices(profile):
        for part, said in (("requests", requests), ("limits", limits)):
            if resource in said and parse_quantity(said[resource]) != count:
                return (
                    f"resources.{part}.{resource} {said[resource]} contradicts {field} {count};"
                    f" remove it; {field} sets how many a worker has"
                )
    for resource in requests.keys() & limits.keys():
        asked, most = parse_quantity(requests[resource]), parse_quantity(limits[resource])
        if asked is not None and most is not None and asked > most:
            return (
                f"resources.requests.{resource} {requests[resource]} is above resources.limits.{resource}"
                f" {limits[resource]}; lower it, or raise the limit"
            )
    memory, shared = parse_quantity(limits.get("memory", "")), profile.network.shared_memory_gib
    if memory is not None and shared * _GIBIBYTE > memory:
        return (
            f"network.sharedMemoryGiB {shared:g} is above resources.limits.memory {limits['memory']},"
            " which includes it; lower it, or raise the limit"
        )
    return ""


def _part(profile: ComputeProfileSpec, part: str) -> Mapping[str, object]:
    said = profile.resources.get(part, {})
    return said if isinstance(said, Mapping) else {}


def _devices(profile: ComputeProfileSpec) -> list[tuple[str, str, int]]:
    """Return field, resource and count of each device that has a field of its own."""
    found = []
    if profile.gpu is not None:
        found.append(("gpu.count", profile.gpu.resource, profile.gpu.count))
    if profile.network.rdma is not None:
        found.append(("network.rdma.count", profile.network.rdma.resource, profile.network.rdma.count))
    return found


class ProfileCache:
    """Cached profiles by name; an unreadable or contradictory profile is stored as its problem."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._known: dict[str, ComputeProfileSpec | ReconcileProblem] = {}
        self._gone: set[str] = set()  # as the watch told, or the API server when it was asked

    def put(self, body: Json) -> None:
        """Store the current version of a profile."""
        name = body["metadata"]["name"]
        self._gone.discard(name)
        try:
            spec = decode_profile(body)
        except Undecodable as error:
            message = f"ComputeProfile {name} cannot be read: {error}"
            self._known[name] = ReconcileProblem(Reason.PROFILE_NOT_FOUND, message)
            return
        wrong = contradiction(spec)
        refused = ReconcileProblem(
            Reason.CONFIG_REFUSED, f"compute.profile {name}: ComputeProfile {name}: {wrong}"
        )
        self._known[name] = refused if wrong else spec

    def drop(self, name: str) -> None:
        """Remove a deleted profile."""
        self._known.pop(name, None)
        self._gone.add(name)

    async def ensure_listed(self, name: str) -> None:
        """List all profiles from the API server if this one is not cached; may raise ClusterError."""
        if name not in self._known:
            for body in await self._cluster.find(PROFILE, ""):
                self.put(body)
            if name not in self._known:
                self._gone.add(name)

    async def is_gone(self, name: str) -> bool:
        """Return whether there is no such profile; may raise ClusterError."""
        if name not in self._known and name not in self._gone:
            await self.ensure_listed(name)
        return name in self._gone

    def get(self, name: str) -> ComputeProfileSpec | ReconcileProblem | None:
        """Return the profile, the problem with it, or None if it is not cached."""
        return self._known.get(name)

    def readable(self) -> dict[str, ComputeProfileSpec]:
        """Return the readable profiles by name."""
        return {name: known for name, known in self._known.items() if isinstance(known, ComputeProfileSpec)}

    def names(self) -> frozenset[str]:
        """Return the names of the readable profiles."""
        return frozenset(self.readable())
