"""The only path by which callers change Kubernetes: audited, and annotated with the caller's name."""

from __future__ import annotations

from http.client import ACCEPTED, CREATED

from footplate_api.audit.auditor import Auditor
from footplate_api.identity.caller import PRICES, Caller, Right
from footplate_api.kubernetes.client import KubernetesWriter, Manifest
from footplate_contracts.names import REQUESTED_BY_ANNOTATION


class AuditedWriter:
    """`ports.KubernetesWriter` for one caller.

    Also raises DatabaseUnavailable: a write that cannot be recorded is not sent to Kubernetes.
    """

    def __init__(self, cluster: KubernetesWriter, auditor: Auditor) -> None:
        self._cluster = cluster
        self._auditor = auditor

    @property
    def caller(self) -> Caller:
        """Caller for whom it writes."""
        return self._auditor.caller

    @property
    def username(self) -> str:
        """Name of the caller."""
        return self.caller.username

    def with_requester(self, manifest: Manifest) -> Manifest:
        """Return `manifest` annotated with the caller's name."""
        return with_requester(manifest, self.username)

    async def create_run(self, namespace: str, manifest: Manifest) -> Manifest:
        given = manifest["metadata"].get("name")
        name = given if isinstance(given, str) else ""  # with generateName Kubernetes names it
        async with self._auditor.record(Right("create", namespace=namespace, name=name), CREATED) as outcome:
            created = await self._cluster.create_run(namespace, self.with_requester(manifest))
            outcome.uid = str(created["metadata"]["uid"])
            outcome.name = "" if name else str(created["metadata"]["name"])
        return created

    async def get_run(self, namespace: str, name: str) -> Manifest:
        return await self._cluster.get_run(namespace, name)

    async def delete_run(self, namespace: str, name: str, uid: str | None) -> str:
        async with self._auditor.record(Right("delete", namespace=namespace, name=name), ACCEPTED) as outcome:
            outcome.uid = await self._cluster.delete_run(namespace, name, uid)
        return outcome.uid

    async def create_price(self, manifest: Manifest, dry_run: bool = False) -> Manifest:
        """Create a price; a dry run changes nothing and is not recorded."""
        if dry_run:
            return await self._cluster.create_price(self.with_requester(manifest), dry_run)
        name = str(manifest["metadata"].get("name", ""))
        async with self._auditor.record(Right("create", PRICES, name=name), CREATED) as outcome:
            created = await self._cluster.create_price(self.with_requester(manifest))
            outcome.uid = str(created["metadata"]["uid"])
            outcome.name = "" if name else str(created["metadata"]["name"])
        return created

    async def get_price(self, name: str) -> Manifest:
        return await self._cluster.get_price(name)


def with_requester(manifest: Manifest, username: str) -> Manifest:
    """Return `manifest` annotated with the name of the user who requested it."""
    metadata = manifest["metadata"]
    annotations = metadata.get("annotations")
    if not isinstance(annotations, dict | None):
        return manifest  # which Kubernetes refuses
    return {
        **manifest,
        "metadata": {**metadata, "annotations": {**(annotations or {}), REQUESTED_BY_ANNOTATION: username}},
    }
