"""Objects of our kinds, decoded once, at the edge, and their children.

The API server stores objects that an older release accepted. An object that this release cannot decode must
end in a condition, not in a crash, so decoding is a step of its own with an error of its own.

Of children only the fields are cached that decisions read. Anybody may write labels, so they only narrow
lists and watches; a child's controlling owner reference names its owner.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, Self, TypeVar

from pydantic import ValidationError

from footplate_contracts.base import Contract, first_error
from footplate_contracts.names import MANAGED_BY, MANAGED_BY_LABEL, Reason
from footplate_operator.runtime.clock import parse_time
from footplate_operator.runtime.kinds import Json, Kind

SpecT = TypeVar("SpecT", bound=Contract)
StatusT = TypeVar("StatusT", bound=Contract)


@dataclass(frozen=True)
class Key:
    """Namespace and name of an object, as in queues and logs."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class Undecodable(ValueError):
    """An object that does not fit this release's models; the message names the first field."""

    reason = Reason.CONFIG_REFUSED


class UnreadableStatus(Undecodable):
    """A status that another release wrote; the message names that release."""

    reason = Reason.STATUS_UNREADABLE


@dataclass(frozen=True)
class KubernetesObject(Generic[SpecT, StatusT]):
    """An object; `status` is the last written one."""

    key: Key
    uid: str
    version: str  # resourceVersion
    generation: int
    created: datetime
    deleted: bool  # deletion has begun
    spec: SpecT
    status: StatusT

    @property
    def name(self) -> str:
        """`metadata.name`."""
        return self.key.name

    @property
    def namespace(self) -> str:
        """`metadata.namespace`."""
        return self.key.namespace

    @property
    def ended(self) -> datetime | None:
        """The time from which only tidying up was left to do; None before."""
        return None

    @classmethod
    def read(
        cls,
        body: Mapping[str, Any],
        spec: type[SpecT],
        status: type[StatusT],
        before: tuple[Mapping[str, Any], Self] | None = None,
    ) -> Self:
        """Return the object in `body`; raises Undecodable.

        Args:
            before: the previous body, and its object: unchanged parts are not decoded again.
        """
        metadata = body["metadata"]
        text, known = before or ({}, None)
        same_spec = known is not None and text.get("spec") == body.get("spec")
        same_status = known is not None and text.get("status") == body.get("status")
        return cls(
            key=key_of(body),
            uid=metadata["uid"],
            version=str(metadata.get("resourceVersion", "")),
            generation=int(metadata.get("generation", 0)),
            created=parse_time(metadata["creationTimestamp"]),
            deleted="deletionTimestamp" in metadata,
            spec=known.spec if known is not None and same_spec else _read_spec(spec, body),
            status=known.status if known is not None and same_status else _read_status(status, body),
        )


ContractT = TypeVar("ContractT", bound=Contract)


def read(model: type[ContractT], value: object) -> ContractT:
    """Return the record in `value`; raises Undecodable."""
    try:
        return model.from_json(value)
    except ValidationError as error:
        raise Undecodable(first_error(error)) from None


def unreadable_message(what: str, written_by: str, error: str) -> str:
    """Return a message for an administrator: which release wrote `what`, and how to go on."""
    writer = f"operator {written_by}" if written_by else "an operator of unknown version"
    return (
        f"this release cannot read {what}: {writer} wrote it ({error}); nothing is created or deleted until"
        " that operator, or a newer one, is installed again"
    )


def _read_spec(model: type[ContractT], body: Mapping[str, Any]) -> ContractT:
    try:
        return read(model, body.get("spec", {}))
    except Undecodable as error:
        raise Undecodable(f"this release cannot read the spec: {error}") from None


def _read_status(model: type[ContractT], body: Mapping[str, Any]) -> ContractT:
    status = body.get("status", {})
    try:
        return model.from_any_release(status)
    except ValidationError as error:
        written_by = str(status.get("writtenBy", ""))
        raise UnreadableStatus(unreadable_message("the status", written_by, first_error(error))) from None


def key_of(body: Mapping[str, Any]) -> Key:
    """Return the key of an object."""
    return Key(body["metadata"]["namespace"], body["metadata"]["name"])


# -- children ----------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Child:
    """A child as it was last seen; a kind may add fields that its decisions read."""

    kind: Kind
    name: str
    uid: str
    namespace: str = ""
    owner_uid: str = ""  # of the object that controls it
    owner_name: str = ""  # needed of kinds whose objects control children themselves, as Jobs do
    version: int = 0  # resourceVersion
    terminating: bool = False
    essence: str = ""  # a digest of what its owner says of it, where anybody compares that


def view_child(kind: Kind, body: Mapping[str, Any]) -> Child:
    """Return the view of a child whose existence is enough."""
    metadata = body["metadata"]
    return Child(
        kind=kind,
        name=metadata["name"],
        uid=metadata.get("uid", ""),
        namespace=metadata.get("namespace", ""),
        owner_uid=str(controller_of(body).get("uid", "")),
        owner_name=str(controller_of(body).get("name", "")),
        version=int(metadata.get("resourceVersion") or 0),
        terminating="deletionTimestamp" in metadata,
    )


def controller_of(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the owner reference of the object's controller; empty without one."""
    references = body["metadata"].get("ownerReferences", [])
    return next((reference for reference in references if reference.get("controller")), {})


def owner_reference(kind: Kind, owner: KubernetesObject[Any, Any]) -> Json:
    """Return a reference that makes an object a child of `owner`.

    A foreground deletion of the owner need not wait for the child.
    """
    return {
        "apiVersion": kind.api_version,
        "kind": kind.name,
        "name": owner.name,
        "uid": owner.uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }


def child_metadata(
    kind: Kind, owner: KubernetesObject[Any, Any], name: str, labels: Mapping[str, str]
) -> Json:
    """Build the metadata of a child of `owner`, with the label that the operator's watches select."""
    return {
        "name": name,
        "namespace": owner.namespace,
        "labels": {MANAGED_BY_LABEL: MANAGED_BY, **labels},
        "ownerReferences": [owner_reference(kind, owner)],
    }
