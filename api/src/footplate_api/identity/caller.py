"""Who sends a request, and what may be asked about them; pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from footplate_contracts.names import GROUP

RUNS: Final = "trainingruns"
PROFILES: Final = "computeprofiles"
PRICES: Final = "priceentries"
POD_UID: Final = "authentication.kubernetes.io/pod-uid"
_ACCOUNT: Final = "system:serviceaccount:"
_WRITES: Final = frozenset({"create", "update", "patch", "delete", "deletecollection"})


@dataclass(frozen=True)
class Caller:
    """A user as Kubernetes knows one: what its reviews name, and are asked about."""

    username: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()

    @property
    def pod_uid(self) -> str | None:
        """Of the pod that the token is bound to; None where it is bound to none."""
        return next((values[0] for key, values in self.extra if key == POD_UID and values), None)

    @property
    def sender(self) -> str:
        """Who it is of those that send telemetry.

        Coordinators of a namespace have one account, and a pod each.

        >>> Caller("alice").sender
        'alice'
        """
        return self.pod_uid or self.username

    @property
    def namespace(self) -> str | None:
        """Of the service account; None of other users.

        >>> Caller("system:serviceaccount:team-a:trainer").namespace, Caller("alice").namespace
        ('team-a', None)
        """
        if not self.username.startswith(_ACCOUNT):
            return None
        return self.username.removeprefix(_ACCOUNT).partition(":")[0]


@dataclass(frozen=True, slots=True)
class Right:
    """What somebody wants to do, in the words of an RBAC rule; an empty namespace stands for all of them.

    `path` instead is that of a URL that belongs to no resource, such as /metrics.
    """

    verb: str
    resource: str = RUNS
    group: str = GROUP
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""

    @property
    def writes(self) -> bool:
        """Whether whoever makes use of it changes something."""
        return self.verb in _WRITES

    def __str__(self) -> str:
        """As a refusal says it.

        >>> print(Right("list", namespace="team-a"))
        list trainingruns.footplate.dev in the namespace "team-a"
        >>> print(Right("get", path="/metrics"))
        get the URL /metrics
        """
        if self.path:
            return f"{self.verb} the URL {self.path}"
        kind = f"{self.resource}.{self.group}" if self.group else self.resource
        what = f"{kind}/{self.subresource}" if self.subresource else kind
        named = f' "{self.name}"' if self.name else ""
        place = f'the namespace "{self.namespace}"' if self.namespace else "all namespaces"
        return f"{self.verb} {what}{named} in {place}"


READ_METRICS: Final = Right("get", path="/metrics")
LIST_EVERYWHERE: Final = Right("list")
