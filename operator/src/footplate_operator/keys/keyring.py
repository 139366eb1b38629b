"""Credentials of every run: derived from the installation's key, or handed over.

The key is random, made once by the first leader, and stored in a Secret of the operator's own namespace. A
revision names the key of its run's credentials; those of an earlier operator, which made random ones, and
those of another key, are handed over: a job of its kind copies them into Secrets beside the key.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Protocol

from footplate_contracts.logs import log_fields
from footplate_operator.errors import AlreadyExists, ClusterError, NotFound
from footplate_operator.keys import manifests
from footplate_operator.keys.credentials import KEY_BYTES, RunCredentials, derive_credentials, key_id
from footplate_operator.keys.manifests import KEY, KeySecretNames
from footplate_operator.runtime import periodic_checks
from footplate_operator.runtime.cluster import Cluster
from footplate_operator.runtime.kinds import SECRET

MISSED_SECONDS: Final = 5.0  # between two looks while somebody's credentials are not known
_TROUBLES: Final = (ClusterError, ValueError)
_log = logging.getLogger(__name__)


class CredentialSource(Protocol):
    """The operator's interface to the keyring."""

    @property
    def current_key_id(self) -> str:
        """The id of the key from which the credentials of newly admitted runs are derived.

        Raises ClusterError while it is not known.
        """

    def credentials(
        self, uid: str, names: Sequence[str], created: datetime, key: str | None
    ) -> RunCredentials | None:
        """Return the credentials of the owner `uid`, which stores the id of this key; None: unknown ones.

        Raises ClusterError while the key is not known.

        Args:
            names: DNS names of its server, the main one first.
            created: the owner's creation time, from its metadata.
            key: id of the key in force when its pods were first made; None: that of an earlier operator.
        """


@dataclass(eq=False)
class Keyring(CredentialSource):
    """The keyring of one installation; `cluster` refuses changes unless this replica leads."""

    cluster: Cluster
    place: KeySecretNames
    sleep: periodic_checks.Sleep = asyncio.sleep
    _key: bytes | None = None
    _handed_over: dict[str, RunCredentials] = field(default_factory=dict)  # by uid of the run
    _missed: bool = True  # somebody's credentials may have been handed over since
    _said: str = ""

    @property
    def current_key_id(self) -> str:
        return key_id(self._known())

    def credentials(
        self, uid: str, names: Sequence[str], created: datetime, key: str | None
    ) -> RunCredentials | None:
        own = self._known()
        if key == key_id(own):
            return derive_credentials(own, uid, names, created)
        found = self._handed_over.get(uid)
        self._missed = self._missed or found is None
        return found

    async def begin(self) -> None:
        """Look once, before anything else begins."""
        await periodic_checks.try_once(self.refresh, _TROUBLES)

    async def run(self) -> None:
        """Maintain the key forever; raises LeadershipLost."""
        await periodic_checks.run_periodically(
            self.refresh, _TROUBLES, "the key of runs' credentials", self._usual, self.sleep
        )

    async def refresh(self) -> None:
        """Read the key, or create it, and the handed over credentials; raises ClusterError, ValueError."""
        found = await self._find() or await self._make()
        if self._key is None:
            self._key = found
        elif found != self._key and self._said != key_id(found):
            self._said = key_id(found)
            _log.error(
                "the key of runs' credentials was changed; training runs keep the previous key while this"
                " operator leads",
                extra=log_fields(secret=self.place.name, was=key_id(self._key), now=key_id(found)),
            )
        if self._missed:
            self._missed = False
            await self._read_shards()

    def _usual(self) -> float:
        return MISSED_SECONDS if self._missed else periodic_checks.LOOK_SECONDS

    def _known(self) -> bytes:
        if self._key is None:
            raise ClusterError(f"Secret {self.place.namespace}/{self.place.name} has not been read yet")
        return self._key

    async def _find(self) -> bytes | None:
        try:
            body = await self.cluster.get(SECRET, self.place.namespace, self.place.name)
        except NotFound:
            return None
        return manifests.read_key(body)

    async def _make(self) -> bytes:
        """Create the Secret and return its key: a new one, or the cached one if the Secret was deleted."""
        key = self._key or secrets.token_bytes(KEY_BYTES)
        try:
            await self.cluster.create(SECRET, manifests.secret(self.place, self.place.name, {KEY: key}))
            _log.info("wrote the key of runs' credentials", extra=log_fields(secret=self.place.name))
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
