"""A Kubernetes that fits into a dictionary and behaves: uids, versions, 409, owners, preconditions.

It does what the operator relies on and nothing more. `crash_at` ends the
operator at the n-th call that changes something, before or after its effect:
that is what SIGKILL does.
"""

from __future__ import annotations

import itertools
import json
import marshal
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from footplate_contracts.names import MANAGED_BY_LABEL
from footplate_operator.errors import (
    AlreadyExists,
    ClusterError,
    Conflict,
    NotFound,
    ObjectInvalid,
    RequestForbidden,
)
from footplate_operator.runtime import kinds
from footplate_operator.runtime.cluster import PAGE
from footplate_operator.runtime.kinds import POD, SECRET, Json, Kind, kind_of

CORE = tuple(value for value in vars(kinds).values() if isinstance(value, Kind))
Name = tuple[Kind, str]
Watch = Callable[[str, Json], None]


def travelled(body: Json) -> Json:
    """`body` as it arrives at the other end: a copy, and nothing but JSON."""
    arrived: Json = json.loads(json.dumps(body))
    return arrived


def copied(body: Json) -> Json:
    """`body`, which has travelled, once more; several times as fast as that."""
    copy: Json = marshal.loads(marshal.dumps(body))
    return copy


class Killed(BaseException):
    """The operator's process ended here."""


@dataclass
class Clock:
    """A clock that only the test moves."""

    moment: datetime = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.moment

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.moment += timedelta(seconds=seconds)


@dataclass
class FakeCluster:
    """`objects[kind, name]`; one namespace is enough for all tests.

    What objects of `kinds` own stays when they go: tests look at what the operator does by itself.
    """

    clock: Clock = field(default_factory=Clock)
    kinds: Sequence[Kind] = ()  # custom resources, beside those that Kubernetes has
    objects: dict[Name, Json] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)  # verbs of calls that change something
    crash_at: int | None = None  # number of the call, from 1
    crash_after: bool = True  # after its effect, else before
    refuse: dict[tuple[str, Kind], Exception] = field(default_factory=dict)  # (verb, kind) -> error
    admit: Callable[[Json], Exception | None] | None = None  # of what is created: the error of a plugin
    down: bool = False
    watches: list[Watch] = field(default_factory=list)
    forced: list[str] = field(default_factory=list)  # pods that were deleted by force while they ran
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    # -- the operator's side -----------------------------------------------------------

    async def get(self, kind: Kind, namespace: str, name: str) -> Json:
        self._reachable()
        if ("get", kind) in self.refuse:
            raise self.refuse["get", kind]
        return copied(self._found(kind, name))

    async def find(self, kind: Kind, namespace: str, labels: str = "", fields: str = "") -> list[Json]:
        self._reachable()
        if ("find", kind) in self.refuse:
            raise self.refuse["find", kind]
        return [copied(body) for body in self._matching(kind, labels, fields)]

    async def pages(
        self, kind: Kind, namespace: str, labels: str = "", fields: str = "", size: int = PAGE
    ) -> AsyncIterator[list[Json]]:
        names = [body["metadata"]["name"] for body in await self.find(kind, namespace, labels, fields)]
        for start in range(0, len(names), size):
            self._reachable()
            found = (self.objects.get((kind, name)) for name in names[start : start + size])
            yield [copied(body) for body in found if body is not None]

    async def create(self, kind: Kind, body: Json) -> Json:
        if self.admit is not None and (refused := self.admit(body)) is not None:
            raise refused
        return self._change("create", kind, lambda: self._create(kind, body["metadata"]["name"], body))

    async def would_create(self, kind: Kind, body: Json, *, strict: bool = True) -> None:
        self._reachable()
        if ("would create", kind) in self.refuse:
            raise self.refuse["would create", kind]

    async def apply(self, kind: Kind, body: Json, subresource: str = "") -> Json:
        return self._change("apply", kind, lambda: self._apply(kind, body, subresource))

    async def replace(self, kind: Kind, body: Json) -> Json:
        def put() -> Json:
            known = self._found(kind, body["metadata"]["name"])
            if known["metadata"]["resourceVersion"] != body["metadata"].get("resourceVersion"):
                raise Conflict("the object has been modified", 409, "Conflict")
            return self.put({**travelled(body), "metadata": {**known["metadata"], **body["metadata"]}})

        return self._change("replace", kind, put)

    async def merge(self, kind: Kind, namespace: str, name: str, patch: Json) -> Json:
        def put() -> Json:
            known = self._found(kind, name)
            if patch.get("metadata", {}).get("uid", known["metadata"]["uid"]) != known["metadata"]["uid"]:
                raise Conflict("uid differs", 409, "Conflict")
            return self.put(_merged(known, patch))

        return self._change("merge", kind, put)

    async def delete(
        self, kind: Kind, namespace: str, name: str, uid: str = "", grace: int | None = None
    ) -> None:
        def end() -> Json:
            known = self.objects.get((kind, name))
            if kind == SECRET and known is not None and not _is_managed(known):
                raise RequestForbidden(
                    f"Secret {name} is not Footplate's", 403, "Forbidden"
                )  # a policy of the chart
            if known is not None and uid in ("", known["metadata"]["uid"]):
                self._note_force(kind, known, grace)
                self.end(kind, name, grace)
            return {}

        self._change("delete", kind, end)

    async def delete_all(self, kind: Kind, namespace: str, labels: str, grace: int | None = None) -> None:
        def end() -> Json:
            for body in self._matching(kind, labels, ""):
                self._note_force(kind, body, grace)
                self.end(kind, body["metadata"]["name"], grace)
            return {}

        self._change("delete_all", kind, end)

    # -- the test's side ---------------------------------------------------------------

    def put(self, body: Json) -> Json:
        """Store `body` as it is, with the next version, and tell the watches."""
        kind, name = kind_of(body, (*CORE, *self.kinds)), body["metadata"]["name"]
        fresh = travelled(body)
        metadata = fresh["metadata"]
        number = next(self._numbers)
        metadata.setdefault("namespace", "default")
        metadata.setdefault("uid", f"uid-{number}")
        metadata.setdefault("creationTimestamp", self.clock().isoformat())
        metadata["resourceVersion"] = str(number)
        known = self.objects.get((kind, name))
        self.objects[kind, name] = fresh
        self._tell("MODIFIED" if known else "ADDED", fresh)
        return copied(fresh)

    def end(self, kind: Kind, name: str, grace: int | None = None) -> None:
        """Delete: a pod that a kubelet has is Terminating until `bury`, everything else is gone at once."""
        body = self.objects[kind, name]
        if kind == POD and _on_a_node(body) and grace != 0:
            if "deletionTimestamp" not in body["metadata"]:
                changed = copied(body)
                changed["metadata"]["deletionTimestamp"] = self.clock().isoformat()
                changed["metadata"]["deletionGracePeriodSeconds"] = grace
                self.put(changed)
            return
        self.bury(kind, name)

    def bury(self, kind: Kind, name: str) -> None:
        """The object is gone; what it owns follows, as garbage collection does."""
        body = self.objects.pop((kind, name))
        self._tell("DELETED", body)
        uid = body["metadata"]["uid"]
        if kind in self.kinds:
            return
        for (child, child_name), other in list(self.objects.items()):
            if any(owner["uid"] == uid for owner in other["metadata"].get("ownerReferences", [])):
                self.bury(child, child_name)

    def all(self, kind: Kind) -> list[Json]:
        """Objects of one kind, by name."""
        found = [body for (known, _), body in self.objects.items() if known == kind]
        return sorted(found, key=lambda body: str(body["metadata"]["name"]))

    def names(self, kind: Kind) -> list[str]:
        """Names of the objects of one kind."""
        return [str(body["metadata"]["name"]) for body in self.all(kind)]

    # -- particulars -------------------------------------------------------------------

    def _change(self, verb: str, kind: Kind, effect: Callable[[], Json]) -> Json:
        self._reachable()
        self.calls.append(f"{verb} {kind.name}")
        last = self.crash_at is not None and len(self.calls) >= self.crash_at
        if last and not self.crash_after:
            raise Killed
        if (verb, kind) in self.refuse:
            raise self.refuse[verb, kind]
        answer = effect()
        if last:
            raise Killed
        return answer

    def _reachable(self) -> None:
        if self.down:
            raise ClusterError("connection refused")

    def _create(self, kind: Kind, name: str, body: Json) -> Json:
        if (kind, name) in self.objects:
            raise AlreadyExists(f"{kind.plural} {name} already exists", 409, "AlreadyExists")
        fresh = travelled(body)
        if kind == POD:
            fresh.setdefault("status", {"phase": "Pending"})
        return self.put(fresh)

    def _apply(self, kind: Kind, body: Json, subresource: str) -> Json:
        known = self._found(kind, body["metadata"]["name"])
        version = known["metadata"]["resourceVersion"]
        if body["metadata"].get("resourceVersion", version) != version:
            raise Conflict("the object has been modified", 409, "Conflict")
        if subresource != "status":
            raise ObjectInvalid("only status is applied")
        return self.put({**known, "status": body["status"]})

    def _found(self, kind: Kind, name: str) -> Json:
        try:
            return self.objects[kind, name]
        except KeyError:
            raise NotFound(f"{kind.plural} {name} not found", 404, "NotFound") from None

    def _matching(self, kind: Kind, labels: str, fields: str) -> list[Json]:
        wanted = dict(part.split("=", 1) for part in labels.split(",") if "=" in part)
        asked = dict(part.split("=", 1) for part in fields.split(",") if "=" in part)
        return [
            body
            for body in self.all(kind)
            if all(body["metadata"].get("labels", {}).get(key) == value for key, value in wanted.items())
            and all(_at(body, path) == value for path, value in asked.items())
        ]

    def _note_force(self, kind: Kind, body: Json, grace: int | None) -> None:
        if kind == POD and grace == 0 and _on_a_node(body):
            self.forced.append(body["metadata"]["name"])

    def _tell(self, event: str, body: Json) -> None:
        for watch in self.watches:
            watch(event, copied(body))


def _at(body: Json, path: str) -> Any:
    value: Any = body
    for part in path.split("."):
        value = value.get(part, {}) if isinstance(value, dict) else {}
    return value


def _merged(known: Json, patch: Json) -> Json:
    fresh = copied(known)
    for key, value in patch.items():
        if isinstance(value, dict):
            within = fresh.get(key)
            fresh[key] = _merged(within if isinstance(within, dict) else {}, value)
        elif value is None:
            fresh.pop(key, None)
        else:
            fresh[key] = value
    return fresh


def _is_managed(body: Json) -> bool:
    return MANAGED_BY_LABEL in body["metadata"].get("labels", {})


def _on_a_node(pod: Json) -> bool:
    """Whether a kubelet has containers of `pod`, or may begin to."""
    phase = pod.get("status", {}).get("phase")
    bound = bool(pod.get("spec", {}).get("nodeName")) and phase not in ("Succeeded", "Failed")
    return bound or phase == "Running"
