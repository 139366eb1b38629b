"""Identifies the caller of a request by its token."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from footplate_api.errors import TooManyTokens, Unauthenticated
from footplate_api.http.concurrency_limit import ConcurrencyLimit, refusals
from footplate_api.identity.caller import Caller
from footplate_api.identity.review_cache import ReviewCache
from footplate_api.identity.reviews import Reviewer
from footplate_contracts.names import API_AUDIENCE

LONGEST: Final = 16 * 1024  # characters of a token
# Of reviews, which cost the API server more than a request costs its sender. Known callers have a limit of
# their own, or a flood of unknown tokens would delay them.
AT_ONCE: Final = 32
WAITING: Final = 200  # each holds 33 KB meanwhile; of a fleet that nobody knows the others come again
WAIT_SECONDS: Final = 5.0
_REFUSAL: Final = refusals(
    TooManyTokens,
    slow="Kubernetes is slow to review tokens; retry later.",
    full="{} tokens wait for their review already; retry later.",
)
_TOKEN: Final = re.compile(r"[A-Za-z0-9\-._~+/]+=*", re.ASCII)
_SCHEME: Final = "bearer"


class TokenIssuer(Protocol):
    """Issuer of tokens that are not Kubernetes' own, and their verifier."""

    def is_issuer_of(self, claims: dict[str, Any]) -> bool:
        """Return whether a token with these claims, which nobody has verified, names this issuer."""
        ...

    async def authenticate(self, token: str) -> Caller:
        """Return the owner of `token`; raises Unauthenticated with a sentence, or IssuerUnavailable."""
        ...


class Authentication:
    """Identification of callers by token; `clock` returns monotonic seconds, `now` those since 1970."""

    def __init__(
        self,
        reviewer: Reviewer,
        audiences: Sequence[str] = (API_AUDIENCE,),
        issuers: Sequence[TokenIssuer] = (),
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._reviewer = reviewer
        self._audiences = tuple(audiences)
        self._issuers = tuple(issuers)
        self._clock = clock
        self._now = now
        self._verdicts = ReviewCache[tuple[bytes, tuple[str, ...]], Caller | None](clock)
        self._strangers, self._acquainted = review_limit(), review_limit()

    async def authenticate(self, header: str | None, of_a_component: bool = False) -> Caller:
        """Return the owner of the token in the header Authorization.

        `of_a_component`: tokens for the API server itself are accepted as well, as Prometheus has one.
        Raises Unauthenticated, ClusterUnavailable, IssuerUnavailable or InstallationLacksRights.
        """
        token = bearer_token(header)
        claims = unverified_claims(token)
        for issuer in self._issuers:
            if issuer.is_issuer_of(claims):
                return await issuer.authenticate(token)
        found = await self._reviewed(token, claims, self._audiences)
        if found is None and of_a_component:
            found = await self._reviewed(token, claims, ())
        if found is None:
            meant = " or ".join(self._audiences)
            raise Unauthenticated.refused(
                f"The bearer token is not valid: it has expired, or is not for the audience {meant}."
            )
        return found

    async def _reviewed(
        self, token: str, claims: dict[str, Any], audiences: tuple[str, ...]
    ) -> Caller | None:
        key = hashlib.sha256(token.encode()).digest(), audiences
        left = expiry(claims) - self._now()
        turns = self._acquainted if self._verdicts.has_usable(key) else self._strangers

        async def ask() -> Caller | None:
            async with turns.acquire():
                return await self._reviewer.authenticate(token, audiences)

        return await self._verdicts.get(key, ask, self._clock() + max(left, 0.0))


def review_limit(
    at_once: int = AT_ONCE, waiting: int = WAITING, seconds: float = WAIT_SECONDS
) -> ConcurrencyLimit:
    """Return one concurrency limit; refused requests raise TooManyTokens."""
    return ConcurrencyLimit(at_once, waiting, seconds, _REFUSAL)


def bearer_token(header: str | None) -> str:
    """Return the token in the header Authorization; raises Unauthenticated with the cause.

    >>> bearer_token("Bearer abc.def")
    'abc.def'
    """
    if header is None:
        raise Unauthenticated(
            "The request has no bearer token: send the header Authorization: Bearer <token>."
        )
    scheme, _, token = header.strip().partition(" ")
    token = token.strip()
    wrong = f"The header Authorization must be Bearer and a token of at most {LONGEST} characters."
    if scheme.lower() != _SCHEME:
        raise Unauthenticated(wrong)
    if len(token) > LONGEST or not _TOKEN.fullmatch(token):
        raise Unauthenticated.refused(wrong)
    return token


def unverified_claims(token: str) -> dict[str, Any]:
    """Return the claims of a JSON Web Token, which nobody has verified; none for any other token."""
    parts = token.split(".")
    if len(parts) != 3:
        return {}
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, RecursionError):
        return {}
    return claims if isinstance(claims, dict) else {}


def expiry(claims: dict[str, Any]) -> float:
    """Return when a token ends by its own claim, in seconds since 1970; infinity if it has none."""
    said = claims.get("exp")
    if not isinstance(said, int | float) or isinstance(said, bool):
        return math.inf
    try:
        found = float(said)
    except OverflowError:  # a whole number of some hundred digits
        return math.inf
    return math.inf if math.isnan(found) else found
