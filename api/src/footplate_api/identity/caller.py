"""Callers of the API, and the rights that reviews check; pure."""

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
    """A user as Kubernetes defines it: the fields that its reviews return and accept."""

    username: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()

    @property
    def pod_uid(self) -> str | None:
        """UID of the pod that the token is bound to; None if it is bound to none."""
        return next((values[0] for key, values in self.extra if key == POD_UID and values), None)

    @property
    def sender_id(self) -> str:
        """Identity of a telemetry sender: the pod's uid, else the username.

        Coordinators of a namespace share one service account, and have a pod each.

        >>> Caller("alice").sender_id
        'alice'
        """
        return self.pod_uid or self.username

    @property
    def namespace(self) -> str | None:
        """Namespace of the service account; None for other users.

        >>> Caller("system:serviceaccount:team-a:trainer").namespace, Caller("alice").namespace
        ('team-a', None)
        """
        if not self.username.startswith(_ACCOUNT):
            return None
        return self.username.removeprefix(_ACCOUNT).partition(":")[0]


@dataclass(frozen=True, slots=True)
class Right:
    """An action in the terms of an RBAC rule; an empty namespace stands for all of them.

    `path` is used instead for a URL that belongs to no resource, such as /metrics.
    """

    verb: str
    resource: str = RUNS
    group: str = GROUP
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""

    @property
    def is_write(self) -> bool:
        """True if the action changes something."""
        return self.verb in _WRITES

    def __str__(self) -> str:
        """Return the text for a refusal.

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
