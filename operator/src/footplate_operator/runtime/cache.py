"""Indexed cache of a kind's objects and their children, filled by the watches.

Our own writes enter at once, with the API server's response: a decision right after a child was created must
not create it again because the watch is slow. An older version never replaces a newer one, not even of
another object with the same name, and deleted objects stay deleted. Ended objects are many and rarely read:
they are stored as compressed JSON, a tenth of their size otherwise.
"""

from __future__ import annotations

import json
import zlib
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from footplate_operator.runtime.controller import Controller, lingers
from footplate_operator.runtime.kinds import Json, Kind
from footplate_operator.runtime.objects import Child, Key, controller_of, key_of

_TOMBSTONES: Final = 10_000
_PREDECESSORS: Final = 1_000


@dataclass(frozen=True, slots=True)
class _Known:
    """An object as it was last seen; the body of an ended one is compressed."""

    uid: str
    version: int
    ended: bool
    index: Mapping[str, str]
    body: Json | bytes


_NOBODY: Final = _Known(uid="", version=0, ended=False, index={}, body={})


class Cache:
    """Objects of one kind and their children, as they were last seen."""

    def __init__(self, controller: Controller[Any, Any, Any]) -> None:
        self._controller = controller
        self._objects: dict[Key, _Known] = {}
        self._live: set[Key] = set()
        # By namespace and uid of the owner.
        self._children: dict[tuple[str, str], dict[tuple[Kind, str], Child]] = {}
        self._tombstones: OrderedDict[str, None] = OrderedDict()  # uids of what is gone
        # Of those, what a watch or a list shows no more, which may only have lost its labels.
        self._doubted: dict[tuple[str, str], set[tuple[Kind, str]]] = {}
        # Uids of objects that are gone, and whose children may not be.
        self._unpurged: dict[Key, set[str]] = {}
        # Uids of objects that are gone, and whose children are still seen.
        self._survived: OrderedDict[Key, set[str]] = OrderedDict()

    # -- objects -------------------------------------------------------------------------

    def get(self, key: Key) -> Json | None:
        """Return the object called `key`; None without one."""
        known = self._objects.get(key)
        if known is None:
            return None
        if isinstance(known.body, dict):
            return known.body
        unpacked: Json = json.loads(zlib.decompress(known.body))
        return unpacked

    def __contains__(self, key: Key) -> bool:
        return key in self._objects

    def put(self, body: Json) -> bool:
        """Store a version of an object; return whether it is news, which an older version is not."""
        if body["metadata"]["uid"] in self._tombstones:
            return False
        key = key_of(body)
        fresh = self._view(body)
        known = self._objects.get(key)
        if known is not None and known.version > fresh.version:
            return False
        if known is not None and known.uid != fresh.uid:
            self._gone(key, known.uid)  # nobody told, or will tell later
        self._objects[key] = fresh
        (self._live.discard if fresh.ended else self._live.add)(key)
        return known is None or (known.uid, known.version) != (fresh.uid, fresh.version)

    def drop(self, body: Json) -> None:
        """Remove an object that is gone for good; its children are to be purged."""
        key, uid = key_of(body), body["metadata"]["uid"]
        self._gone(key, uid)
        known = self._objects.get(key)
        if known is not None and known.uid == uid:
            del self._objects[key]
            self._live.discard(key)

    def unpurged(self, key: Key) -> list[str]:
        """Return the uids of deleted objects called `key` whose children may still exist."""
        return sorted(self._unpurged.get(key, ()))

    def mark_purged(self, key: Key, uid: str) -> None:
        """Record that the API server accepted the deletion of a deleted object's children."""
        for child in self.children(key.namespace, uid):
            self.mark_deleted(child)
        left = self._unpurged.get(key, set())
        left.discard(uid)
        if not left:
            self._unpurged.pop(key, None)

    def live(self) -> int:
        """Return the number of objects that have not ended."""
        return len(self._live)

    def find_keys(self, values: Mapping[str, str]) -> list[Key]:
        """Return the objects with these values in their index."""
        return [key for key, known in self._objects.items() if values.items() <= known.index.items()]

    def count(self, name: str) -> Counter[str]:
        """Count objects by their value of one name in the index."""
        return Counter(known.index[name] for known in self._objects.values() if name in known.index)

    # -- children ------------------------------------------------------------------------

    def children(self, namespace: str, owner_uid: str) -> list[Child]:
        """Return an object's children."""
        return list(self._children.get((namespace, owner_uid), {}).values())

    def predecessors(self, key: Key) -> list[Child]:
        """Return children of deleted objects called `key`: their names are not free yet."""
        uids = self._survived.get(key, ())
        return [child for uid in sorted(uids) for child in self.children(key.namespace, uid)]

    def put_child(self, kind: Kind, body: Json) -> None:
        """Store a version of a child; an older one than the cached one is ignored."""
        body = self.resolve_owner(body)
        controller, metadata = controller_of(body), body["metadata"]
        owner = controller.get("uid")
        if metadata["uid"] in self._tombstones:
            return
        if not owner or controller.get("kind") != self._controller.kind.name:
            # It was one perhaps, and somebody took its owner from it.
            self._remove((metadata["namespace"], self._label(body)), kind, metadata["name"], metadata["uid"])
            return
        child = self._controller.hooks.view(kind, body)
        siblings = self._children.setdefault((child.namespace, child.owner_uid), {})
        known = siblings.get((kind, child.name))
        if known is not None and known.version > child.version:
            return
        siblings[kind, child.name] = child
        self._believe(child)
        key = Key(child.namespace, str(controller.get("name", "")))
        if owner in self._tombstones or self._objects.get(key, _NOBODY).uid not in ("", owner):
            self._keep_survivor(key, owner)

    def resolve_owner(self, body: Json) -> Json:
        """Return `body` with the object that owns it as controller, if a child controls it, as a Job does."""
        metadata, controller = body["metadata"], controller_of(body)
        if all(owned.kind.name != controller.get("kind") for owned in self._controller.owns):
            return body
        siblings = self._children.get((metadata["namespace"], self._label(body)), {}).values()
        uids = (controller["uid"], metadata["uid"])  # its own: the child that controlled it may be gone
        known = next((child for child in siblings if child.uid in uids), None)
        if known is None:
            return body
        kind = self._controller.kind
        owner = {"apiVersion": kind.api_version, "kind": kind.name, "name": known.owner_name}
        references = [{**owner, "uid": known.owner_uid, "controller": True}]
        return {**body, "metadata": {**metadata, "ownerReferences": references}}

    def drop_child(self, child: Child) -> None:
        """Remove a child that is gone for good."""
        self._bury(child.uid)
        self._remove((child.namespace, child.owner_uid), child.kind, child.name, child.uid)

    def doubt_child(self, kind: Kind, body: Json) -> None:
        """Mark a child that a watch no longer shows: deleted, or without our label."""
        child, owner = self._controller.hooks.view(kind, body), controller_of(body)
        live = self._objects.get(Key(child.namespace, str(owner.get("name", ""))), _NOBODY)
        known = self._children.get((child.namespace, child.owner_uid), {}).get((kind, child.name))
        if child.terminating or live.ended or live.uid != child.owner_uid:
            self.drop_child(child)
        elif known is not None and known.uid == child.uid:
            self._doubted.setdefault((child.namespace, child.owner_uid), set()).add((kind, child.name))

    def list_doubted(self, namespace: str, owner_uid: str) -> list[Child]:
        """Return an object's children that a watch or a list no longer shows."""
        siblings = self._children.get((namespace, owner_uid), {})
        return [siblings[name] for name in self._doubted.get((namespace, owner_uid), ()) if name in siblings]

    def set_children(self, kind: Kind, namespace: str, owner_uid: str, bodies: Iterable[Json]) -> None:
        """Store all children of one kind from a list; cached ones that are missing there are doubted."""
        names = set()
        for body in bodies:
            names.add(body["metadata"]["name"])
            self.put_child(kind, body)
        for child in self.children(namespace, owner_uid):
            if child.kind == kind and child.name not in names:
                self._doubted.setdefault((namespace, owner_uid), set()).add((kind, child.name))

    def mark_deleted(self, child: Child) -> None:
        """Record that the API server accepted the deletion of `child`."""
        owner = (child.namespace, child.owner_uid)
        known = self._children.get(owner, {}).get((child.kind, child.name))
        if known is None or known.uid != child.uid:
            return
        if lingers(self._controller.owns, child.kind):
            self._children[owner][child.kind, child.name] = replace(known, terminating=True)
        else:
            self.drop_child(known)

    def forget_children(self, namespace: str, owner_uid: str) -> None:
        """Remove an object's children, except for kinds that linger after a deletion."""
        for child in self.children(namespace, owner_uid):
            if not lingers(self._controller.owns, child.kind):
                self._remove((namespace, owner_uid), child.kind, child.name, child.uid)

    # -- particulars ---------------------------------------------------------------------

    def _view(self, body: Json) -> _Known:
        body["metadata"].pop("managedFields", None)
        ended = self._controller.has_ended(body)
        return _Known(
            uid=body["metadata"]["uid"],
            version=int(body["metadata"].get("resourceVersion") or 0),
            ended=ended,
            index=self._controller.index(body),
            body=zlib.compress(json.dumps(body).encode()) if ended else body,
        )

    def _label(self, body: Json) -> str:
        return str(body["metadata"].get("labels", {}).get(self._controller.uid_label, ""))

    def _remove(self, owner: tuple[str, str], kind: Kind, name: str, uid: str) -> None:
        siblings = self._children.get(owner, {})
        known = siblings.get((kind, name))
        if known is not None and known.uid == uid:
            del siblings[kind, name]
            self._believe(known)
        if not siblings:
            self._children.pop(owner, None)

    def _believe(self, child: Child) -> None:
        """Remove `child` from the doubted ones."""
        owner = (child.namespace, child.owner_uid)
        doubted = self._doubted.get(owner, set())
        doubted.discard((child.kind, child.name))
        if not doubted:
            self._doubted.pop(owner, None)

    def _gone(self, key: Key, uid: str) -> None:
        self._bury(uid)
        self._unpurged.setdefault(key, set()).add(uid)
        if (key.namespace, uid) in self._children:
            self._keep_survivor(key, uid)

    def _keep_survivor(self, key: Key, uid: str) -> None:
        """Track children that outlive their owner; the oldest owners' children are dropped."""
        left = {known for known in self._survived.pop(key, ()) if (key.namespace, known) in self._children}
        self._survived[key] = left | {uid}
        if len(self._survived) > _PREDECESSORS:
            oldest, uids = self._survived.popitem(last=False)
            for known in uids:
                self._children.pop((oldest.namespace, known), None)

    def _bury(self, uid: str) -> None:
        self._tombstones[uid] = None
        while len(self._tombstones) > _TOMBSTONES:
            self._tombstones.popitem(last=False)
