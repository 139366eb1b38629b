"""Knows the credentials of every run: of the installation's key, or as they were handed over.

The key is made by chance, once, by the first replica that leads, and lies in a Secret of the operator's own
namespace. A revision says which key its run's credentials are of; those of an operator before this one, which
made them by chance, and those of another key, are handed over by `handover.py`.
"""

from __future__ import annotations

import logging
import secrets
from dataclasses import dataclass, field
from typing import Final, Protocol

from footplate_contracts.logs import fields
from footplate_operator.errors import AlreadyExists, ClusterError, NotFound
from footplate_operator.keys import manifests
from footplate_operator.keys.manifests import KEY, KeyPlace
from footplate_operator.runtime import upkeep
from footplate_operator.runtime.cluster import Cluster
from footplate_operator.runtime.kinds import SECRET
from footplate_operator.trainingrun.credentials import KEY_BYTES, derived, key_id
from footplate_operator.trainingrun.metadata import certificate_names
from footplate_operator.trainingrun.observed import Credentials
from footplate_operator.trainingrun.run import Run

MISSED_SECONDS: Final = 5.0  # between two looks while somebody's credentials are not known
_TROUBLES: Final = (ClusterError, ValueError)
_log = logging.getLogger(__name__)


class Keys(Protocol):
    """What the operator asks of the keyring."""

    @property
    def current(self) -> str:
        """What the key is called of which credentials of runs are that are admitted now.

        Raises ClusterError while it is not known.
        """

    def credentials(self, run: Run, key: str | None) -> Credentials | None:
        """Those of a run whose revision names this key; None where nobody knows them.

        Raises ClusterError while the key is not known.
        """


@dataclass(eq=False)
class Keyring(Keys):
    """Of one installation; `cluster` refuses to change anything unless this replica leads."""

    cluster: Cluster
    place: KeyPlace
    _key: bytes | None = None
    _handed_over: dict[str, Credentials] = field(default_factory=dict)  # by uid of the run
    _missed: bool = True  # somebody's credentials may have been handed over since
    _said: str = ""

    @property
    def current(self) -> str:
        return key_id(self._known())

    def credentials(self, run: Run, key: str | None) -> Credentials | None:
        own = self._known()
        if key == key_id(own):
            return derived(own, run.uid, certificate_names(run), run.created)
        found = self._handed_over.get(run.uid)
        self._missed = self._missed or found is None
        return found

    async def begin(self) -> None:
        """Look once, for whoever begins now."""
        await upkeep.begin(self.look, _TROUBLES)

    async def run(self) -> None:
        """Keep the key for ever; raises LeadershipLost."""
        await upkeep.keep(self.look, _TROUBLES, "the key of runs' credentials", self._usual)

    async def look(self) -> None:
        """Find the key, or make it, and what was handed over; raises ClusterError, ValueError."""
        found = await self._find() or await self._make()
        if self._key is None:
            self._key = found
        elif found != self._key and self._said != key_id(found):
            self._said = key_id(found)
            _log.error(
                "somebody has changed the key of runs' credentials: what trains keeps the one before as long"
                " as this operator leads",
                extra=fields(secret=self.place.name, was=key_id(self._key), now=key_id(found)),
            )
        if self._missed:
            self._missed = False
            await self._read_shards()

    def _usual(self) -> float:
        return MISSED_SECONDS if self._missed else upkeep.LOOK_SECONDS

    def _known(self) -> bytes:
        if self._key is None:
            raise ClusterError(f"Secret {self.place.namespace}/{self.place.name} was not read yet")
        return self._key

    async def _find(self) -> bytes | None:
        try:
            body = await self.cluster.get(SECRET, self.place.namespace, self.place.name)
        except NotFound:
            return None
        return manifests.read_key(body)

    async def _make(self) -> bytes:
        """A new key, or the one that is known where somebody has deleted its Secret."""
        key = self._key or secrets.token_bytes(KEY_BYTES)
        try:
            await self.cluster.create(SECRET, manifests.secret(self.place, self.place.name, {KEY: key}))
            _log.info("the key of runs' credentials is written", extra=fields(secret=self.place.name))
            return key
        except AlreadyExists:
            found = await self._find()
            if found is None:
                raise
            return found

    async def _read_shards(self) -> None:
        for name in self.place.shards:
            try:
                body = await self.cluster.get(SECRET, self.place.namespace, name)
            except NotFound:
                continue
            self._handed_over.update(manifests.read_entries(body))
