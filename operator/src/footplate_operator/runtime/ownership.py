"""What an object owns, reduced to what decisions read.

Labels are written by anybody, so they only narrow what is listed and watched;
whose child something is, its controlling owner reference says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from footplate_operator.runtime.kinds import Json, Kind
from footplate_operator.runtime.objects import Object


@dataclass(frozen=True, kw_only=True)
class Child:
    """A child as it was seen last; a kind may add what its decisions read of it."""

    kind: Kind
    name: str
    uid: str
    namespace: str = ""
    owner_uid: str = ""  # of the object that controls it
    version: int = 0  # resourceVersion
    terminating: bool = False


def view_child(kind: Kind, body: Mapping[str, Any]) -> Child:
    """The view of a child of which it is enough that it exists."""
    metadata = body["metadata"]
    return Child(
        kind=kind,
        name=metadata["name"],
        uid=metadata.get("uid", ""),
        namespace=metadata.get("namespace", ""),
        owner_uid=str(controller_of(body).get("uid", "")),
        version=int(metadata.get("resourceVersion") or 0),
        terminating="deletionTimestamp" in metadata,
    )


def controller_of(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The owner reference of whoever controls the object; empty for nobody."""
    references = body["metadata"].get("ownerReferences", [])
    return next((reference for reference in references if reference.get("controller")), {})


def owner_reference(kind: Kind, owner: Object[Any, Any]) -> Json:
    """What makes an object a child of `owner`; a foreground deletion of the owner need not wait for it."""
    return {
        "apiVersion": kind.api_version,
        "kind": kind.name,
        "name": owner.name,
        "uid": owner.uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }
