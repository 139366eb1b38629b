"""Cache of ComputeProfiles, from the watch and from reads of the API server."""

from __future__ import annotations

from footplate_contracts.names import Reason
from footplate_contracts.v1alpha1.computeprofile import ComputeProfileSpec
from footplate_operator.runtime.cluster import Cluster
from footplate_operator.runtime.decision import ReconcileProblem
from footplate_operator.runtime.kinds import Json
from footplate_operator.runtime.objects import Undecodable
from footplate_operator.trainingrun.policies.profile import contradiction
from footplate_operator.trainingrun.run import PROFILE, decode_profile


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
