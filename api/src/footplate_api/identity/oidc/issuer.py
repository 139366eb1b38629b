"""Identifies callers by tokens of the configured OIDC issuer."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from footplate_api.errors import Unauthenticated
from footplate_api.identity.caller import Caller
from footplate_api.identity.oidc import claims, tokens
from footplate_api.identity.oidc.config import OidcConfig
from footplate_api.identity.oidc.jwks_cache import Fetch, JwksCache


class OidcIssuer:
    """`authentication.Issuer` of an OpenID Connect provider.

    `fetch` returns its keys, or raises IssuerUnavailable; `clock` returns monotonic seconds, `now` those
    since 1970.
    """

    def __init__(
        self,
        oidc: OidcConfig,
        fetch: Fetch,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._oidc = oidc
        self._ring = JwksCache(fetch, clock)
        self._now = now

    def is_issuer_of(self, claims: dict[str, Any]) -> bool:
        return claims.get("iss") == self._oidc.issuer

    async def authenticate(self, token: str) -> Caller:
        said = tokens.parse_header(token, self._oidc.algorithms)
        keys = await self._ring.find(said.key, said.algorithm)
        if not keys:
            raise Unauthenticated.refused(
                "The token names a key that the issuer does not publish for this algorithm."
            )
        return claims.caller_from_claims(
            tokens.verify_signature(token, keys, said.algorithm), self._oidc, self._now()
        )
