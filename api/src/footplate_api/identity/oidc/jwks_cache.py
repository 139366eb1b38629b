"""Cache of the issuer's keys: fetched for tokens, and used further while the issuer is unavailable."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from footplate_api.errors import IssuerUnavailable
from footplate_api.identity.oidc.keys import JsonWebKey, matching_keys

REFRESH_SECONDS: Final = 10 * 60.0  # a key that was taken back is good for so long, with its issuer there
PAUSE_SECONDS: Final = 5.0  # between fetches: anybody may name keys that there are not

Fetch = Callable[[], Awaitable[Sequence[JsonWebKey]]]

log = logging.getLogger(__name__)


class JwksCache:
    """Cache of what `fetch` returns, or raises IssuerUnavailable; `clock` returns monotonic seconds."""

    def __init__(self, fetch: Fetch, clock: Callable[[], float]) -> None:
        self._fetch = fetch
        self._clock = clock
        self._keys: Sequence[JsonWebKey] = ()
        self._fetched = self._tried = float("-inf")
        self._failure: str | None = None
        self._fetching: asyncio.Task[None] | None = None

    async def find(self, key: str, algorithm: str) -> tuple[JsonWebKey, ...]:
        """Return the keys of this id that may sign by `algorithm`, none if the issuer has none.

        Raises IssuerUnavailable if it is unknown whether the issuer has one.
        """
        known = any(of.id == key for of in self._keys)
        if known and self._clock() - self._fetched < REFRESH_SECONDS:
            return matching_keys(self._keys, key, algorithm)
        try:
            await self._renewed()
        except IssuerUnavailable:
            if not known:
                raise
        return matching_keys(self._keys, key, algorithm)

    async def _renewed(self) -> None:
        """Wait until the keys are as new as they can be; raises IssuerUnavailable."""
        if not self._pauses():
            await asyncio.shield(self._begin())  # others may wait for it, too
        elif self._failure is not None:
            raise IssuerUnavailable(self._failure)

    def _pauses(self) -> bool:
        return self._fetching is None and self._clock() - self._tried < PAUSE_SECONDS

    def _begin(self) -> asyncio.Task[None]:
        if self._fetching is None:
            self._fetching = asyncio.create_task(self._renew(), name="keys of the OIDC issuer")
            self._fetching.add_done_callback(self._ended)
        return self._fetching

    def _ended(self, done: asyncio.Task[None]) -> None:
        self._fetching = None
        if not done.cancelled():
            done.exception()  # whoever asked may have left

    async def _renew(self) -> None:
        try:
            self._keys = await self._fetch()
            self._failure, self._fetched = None, self._clock()
        except IssuerUnavailable as error:
            self._failure = error.detail
            log.warning("%s %r", error.detail, error.__cause__)
            raise
        finally:
            self._tried = self._clock()
