"""Applies decisions: calls that change children, in an order that may stop anywhere."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from footplate_contracts.logs import log_fields
from footplate_contracts.names import Reason
from footplate_operator.errors import (
    AlreadyExists,
    ClusterError,
    Conflict,
    NameTaken,
    NotFound,
    ObjectInvalid,
    RequestForbidden,
)
from footplate_operator.runtime.cache import Cache
from footplate_operator.runtime.cluster import Cluster
from footplate_operator.runtime.controller import Controller, is_unread
from footplate_operator.runtime.decision import Change, Create, Delete, Patch, Replace
from footplate_operator.runtime.kinds import Json, Kind, kind_of
from footplate_operator.runtime.objects import Key, KubernetesObject, controller_of

_AT_ONCE: Final = 32  # calls that are made at the same time for one object
_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Actor:
    """The only component that lists, creates and deletes children of one kind's objects."""

    controller: Controller[Any, Any, Any]
    cluster: Cluster
    cache: Cache

    async def refresh(self, owner: KubernetesObject[Any, Any]) -> None:
        """List everything that belongs to `owner`; raises ClusterError."""
        for owned in self.controller.owns:
            if owned.unread:
                continue
            found = await self.cluster.find(owned.kind, owner.namespace, self._selector(owner.uid))
            self.cache.set_children(owned.kind, owner.namespace, owner.uid, found)

    async def confirm(self, owner: KubernetesObject[Any, Any]) -> None:
        """Get each child that a watch or a list no longer shows, to find whether it is gone.

        Raises ClusterError. Both show only objects with our label, and anybody may write labels.
        """
        for child in self.cache.list_doubted(owner.namespace, owner.uid):
            with suppress(NotFound):
                body = await self.cluster.get(child.kind, child.namespace, child.name)
                if body["metadata"]["uid"] == child.uid:
                    self.cache.put_child(child.kind, body)
                    continue
            self.cache.drop_child(child)

    async def act(
        self, owner: KubernetesObject[Any, Any], groups: Iterable[Iterable[Change]]
    ) -> list[ClusterError]:
        """Apply the changes, group after group; return the refusals."""
        refused: list[ClusterError] = []
        complete = True  # what is to be made next has all that it needs
        for group in groups:
            changes = [change for change in group if complete or not isinstance(change, Create)]
            errors = await _together([partial(self._make, owner, change) for change in changes])
            for change, error in zip(changes, errors, strict=True):
                if error is not None:
                    refused.append(error)
                    complete = complete and not (isinstance(change, Create) and change.needed)
        if refused:
            about = log_fields(status=refused[0].status, error=refused[0], changes=len(refused))
            _log.warning("refused", extra=about)
        return refused

    async def purge(self, key: Key, uid: str) -> None:
        """Delete all children of a deleted object, with one request per kind.

        Raises ClusterError where that has to be retried, once all kinds have been tried.
        """
        _log.info("deleting the children of a deleted object", extra=log_fields(uid=uid))
        refused: ClusterError | None = None
        for owned in self.controller.owns:
            if owned.unread:
                continue
            try:
                await self.cluster.delete_all(
                    owned.kind, key.namespace, self._selector(uid), owned.purge_grace
                )
            except ClusterError as error:
                if isinstance(error, RequestForbidden) and not owned.watched:
                    about = log_fields(kind=owned.kind.name, error=error)
                    _log.warning("left to garbage collection", extra=about)
                else:
                    refused = refused or error
        if refused is not None:
            raise refused

    def _selector(self, uid: str) -> str:
        return f"{self.controller.uid_label}={uid}"

    async def _make(self, owner: KubernetesObject[Any, Any], change: Change) -> None:
        match change:
            case Create(manifest):
                await self._create(owner, manifest)
            case Patch():
                await self._patch(owner, change)
            case Delete():
                await self._delete(owner, change)
            case Replace(child, manifest):
                await self._delete(owner, Delete(child))
                await self._create(owner, manifest)

    async def _create(self, owner: KubernetesObject[Any, Any], manifest: Json) -> None:
        kind = kind_of(manifest, (owned.kind for owned in self.controller.owns))
        name = manifest["metadata"]["name"]
        try:
            made = await self.cluster.create(kind, manifest)
            _log.info("created", extra=log_fields(kind=kind.name, name=name))
        except AlreadyExists:
            if is_unread(self.controller.owns, kind):
                await self._put(owner, kind, manifest)
                return
            made = await self._claim(owner, kind, manifest)
        except RequestForbidden as error:
            error.kind = kind.name
            raise
        if not is_unread(self.controller.owns, kind):
            self.cache.put_child(kind, made)

    async def _put(self, owner: KubernetesObject[Any, Any], kind: Kind, manifest: Json) -> None:
        """Replace the object with this name, which the operator may not read; a policy permits only ours."""
        name = manifest["metadata"]["name"]
        try:
            await self.cluster.delete(kind, owner.namespace, name)
        except RequestForbidden as error:
            message = (
                f"metadata.name {owner.name}: {kind.name} {name} exists and may not be deleted ({error});"
                f" delete it, or give this {self.controller.noun} another name"
            )
            raise Conflict(message, 409, Reason.CHILD_CONFLICT) from None
        try:
            await self.cluster.create(kind, manifest)
            _log.info("recreated", extra=log_fields(kind=kind.name, name=name))
        except AlreadyExists as error:
            raise NameTaken(str(error), 409, Reason.CHILD_CONFLICT) from None

    async def _claim(self, owner: KubernetesObject[Any, Any], kind: Kind, manifest: Json) -> Json:
        """Return the existing child if it is ours, else create it once the other object is deleted."""
        with suppress(NotFound):
            known = await self.cluster.get(kind, owner.namespace, manifest["metadata"]["name"])
            if controller_of(known).get("uid") == owner.uid:
                return known
            await self._displace(owner, kind, known)
        try:
            return await self.cluster.create(kind, manifest)
        except AlreadyExists as error:
            raise NameTaken(str(error), 409, Reason.CHILD_CONFLICT) from None

    async def _displace(self, owner: KubernetesObject[Any, Any], kind: Kind, body: Json) -> None:
        """Delete the object with a child's name, if an earlier object named like `owner` owned it.

        Names are unique: where `owner` exists, the earlier one is gone, and garbage collection is late.
        Raises Conflict where another object owns it, NameTaken while it is being deleted.
        """
        name, holder = body["metadata"]["name"], controller_of(body)
        message = (
            f"metadata.name {owner.name}: {kind.name} {name} exists and belongs to {_owner_name(body)};"
            f" delete it, or give this {self.controller.noun} another name"
        )
        if (holder.get("kind"), holder.get("name")) != (self.controller.kind.name, owner.name):
            raise Conflict(message, 409, Reason.CHILD_CONFLICT)
        self.cache.put_child(kind, body)
        newest = await self.cluster.get(self.controller.kind, owner.namespace, owner.name)
        if newest["metadata"]["uid"] != owner.uid or "deletionTimestamp" in body["metadata"]:
            raise NameTaken(message, 409, Reason.CHILD_CONFLICT)
        grace = next(owned.purge_grace for owned in self.controller.owns if owned.kind == kind)
        await self._delete(owner, Delete(self.controller.hooks.view(kind, body), grace))

    async def _patch(self, owner: KubernetesObject[Any, Any], change: Patch) -> None:
        child = change.child
        _log.info(change.verb, extra=log_fields(kind=child.kind.name, name=child.name))
        metadata = {**change.patch.get("metadata", {}), "uid": child.uid}
        patch = {**change.patch, "metadata": metadata}
        try:
            patched = await self.cluster.merge(child.kind, owner.namespace, child.name, patch)
        except (NotFound, Conflict):
            return  # it is gone, or another one: the next look shows
        except (RequestForbidden, ObjectInvalid) as error:
            if change.otherwise is None:
                raise
            _log.warning("not patched", extra=log_fields(name=child.name, error=error))
            await self._delete(owner, change.otherwise)
            return
        self.cache.put_child(child.kind, patched)

    async def _delete(self, owner: KubernetesObject[Any, Any], change: Delete) -> None:
        child = change.child
        _log.info("deleting", extra=log_fields(kind=child.kind.name, name=child.name, grace=change.grace))
        await self.cluster.delete(child.kind, owner.namespace, child.name, child.uid, change.grace)
        if not is_unread(self.controller.owns, child.kind):
            self.cache.mark_deleted(child)


async def _together(steps: Sequence[Callable[[], Awaitable[None]]]) -> list[ClusterError | None]:
    """Run all `steps`, a few at a time; return each one's error or None."""
    gate = asyncio.Semaphore(_AT_ONCE)
    errors: list[ClusterError | None] = [None] * len(steps)

    async def gated(place: int, step: Callable[[], Awaitable[None]]) -> None:
        async with gate:
            try:
                await step()
            except ClusterError as error:
                errors[place] = error

    running = (gated(place, step) for place, step in enumerate(steps))
    for result in await asyncio.gather(*running, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result
    return errors


def _owner_name(body: Json) -> str:
    owner = controller_of(body)
    return f"{owner.get('kind')} {owner.get('name')} (uid {owner.get('uid')})" if owner else "no owner"
