"""Maintains the API's certificate and its CA bundle, whatever happens to the objects.

Only the leader does. It derives everything from the API server's present objects, and writes with
preconditions: another replica, or a person, who was faster wins, and everything is read anew. Objects that
somebody deletes or breaks are made anew at the next look, so deleting the Secret of the authorities replaces
them at once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from footplate_contracts.logs import log_fields
from footplate_operator.certificates import manifests, policy
from footplate_operator.certificates.issue import new_authority, new_serving_certificate
from footplate_operator.certificates.manifests import CertificateNames
from footplate_operator.certificates.policy import CertificateKeyPair
from footplate_operator.errors import CertificateMissing, ClusterError, NotFound
from footplate_operator.runtime import periodic_checks
from footplate_operator.runtime.cluster import Cluster
from footplate_operator.runtime.kinds import CONFIG_MAP, SECRET, Json, Kind

_TROUBLES: Final = (ClusterError, CertificateMissing)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExternalCaBundle:
    """A Secret or ConfigMap in which somebody else stores the API's CA bundle."""

    kind: Kind
    name: str


@dataclass(eq=False)
class CertificateReconciler:
    """Certificate reconciler of one installation; with `given` it only publishes that CA bundle."""

    cluster: Cluster
    place: CertificateNames
    now: Callable[[], datetime]
    given: ExternalCaBundle | None = None
    bundle: str = ""  # certificates in PEM, as they were published last

    async def begin(self) -> None:
        """Reconcile once, so that the CA bundle is known before anything else begins."""
        await periodic_checks.try_once(self.reconcile, _TROUBLES)

    async def run(self) -> None:
        """Reconcile forever; raises LeadershipLost."""
        await periodic_checks.run_periodically(self.reconcile, _TROUBLES, "the API's certificates")

    async def reconcile(self) -> None:
        """Reconcile once; raises ClusterError, CertificateMissing."""
        if self.given is not None:
            await self._publish(await self._bundle_of(self.given))
            return
        authorities = await self._authorities()
        await self._publish(manifests.bundle_of(authorities))  # before one of them signs anything
        await self._serve(authorities)

    async def _authorities(self) -> list[CertificateKeyPair]:
        found = await self._read(SECRET, self.place.authority)
        known, faults = manifests.read_authorities(found)
        for fault in faults:
            _log.warning(
                "ignoring a CA certificate", extra=log_fields(secret=self.place.authority, why=fault)
            )
        now = self.now()
        kept = policy.list_unexpired(known, now)
        if why := policy.find_authority_fault(kept, now):
            _log.info("creating a CA for the API", extra=log_fields(why=why))
            kept = policy.list_unexpired([*kept, new_authority(self.place, now)], now)
        await self._put(SECRET, manifests.authority_secret(self.place, kept), found)
        return kept

    async def _publish(self, bundle: str) -> None:
        found = await self._read(CONFIG_MAP, self.place.bundle)
        await self._put(CONFIG_MAP, manifests.bundle_config_map(self.place, bundle), found)
        self.bundle = bundle

    async def _serve(self, authorities: list[CertificateKeyPair]) -> None:
        found, now = await self._read(SECRET, self.place.serving), self.now()
        serving, names = (
            manifests.read_serving_certificate(found),
            policy.service_dns_names(self.place.service, self.place.namespace),
        )
        why = policy.find_serving_fault(serving, authorities, names, now)
        if why or serving is None:
            _log.info("creating the API's certificate", extra=log_fields(why=why))
            serving = new_serving_certificate(policy.signer(authorities, now), names, now)
        await self._put(SECRET, manifests.serving_secret(self.place, serving), found)

    async def _bundle_of(self, given: ExternalCaBundle) -> str:
        body = await self._read(given.kind, given.name)
        if body is None:
            where = f"{given.kind.name} {self.place.namespace}/{given.name}"
            raise CertificateMissing(f"{where} is missing; it must hold the API's CA certificate")
        try:
            return manifests.read_bundle(given.kind, body)
        except ValueError as error:
            raise CertificateMissing(str(error)) from None

    async def _read(self, kind: Kind, name: str) -> Json | None:
        try:
            return await self.cluster.get(kind, self.place.namespace, name)
        except NotFound:
            return None

    async def _put(self, kind: Kind, wanted: Json, found: Json | None) -> None:
        """Write `wanted` over `found`; raises Conflict where the object has changed since."""
        if found is None:
            await self.cluster.create(kind, wanted)
        elif manifests.is_up_to_date(wanted, found):
            return
        elif manifests.can_replace(wanted, found):
            await self.cluster.replace(kind, {**found, "data": wanted["data"]})
        else:
            about = found["metadata"]
            await self.cluster.delete(kind, self.place.namespace, about["name"], about["uid"])
            await self.cluster.create(kind, wanted)
