"""Fetches an issuer's keys: OpenID Connect Discovery, and the JWK set that it names."""

from __future__ import annotations

import asyncio
import json
import ssl
from pathlib import Path
from typing import Any, Final

import aiohttp

from footplate_api.errors import IssuerUnavailable
from footplate_api.identity.oidc.config import OidcConfig, is_safe_url
from footplate_api.identity.oidc.keys import JsonWebKey, parse_jwks

SECONDS: Final = 5.0  # for both documents together
MOST_BYTES: Final = 1024 * 1024  # of each
_WELL_KNOWN: Final = "/.well-known/openid-configuration"


class OidcDiscovery:
    """Client that fetches the keys of an issuer in at most `seconds`.

    Raises ValueError if the certificates in its CA file cannot be used.
    """

    def __init__(self, oidc: OidcConfig, seconds: float = SECONDS) -> None:
        self._issuer = oidc.issuer
        self._ca_file = oidc.ca_file
        self._seconds = seconds
        _trust(self._ca_file)

    async def fetch_keys(self) -> tuple[JsonWebKey, ...]:
        """Return the keys that the issuer publishes now; raises IssuerUnavailable."""
        try:
            async with asyncio.timeout(self._seconds), self._session() as session:
                return parse_jwks(await _fetched(session, await self._place(session)))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            reason = type(error).__name__
            raise IssuerUnavailable(f"The OIDC issuer does not return its keys ({reason}).") from error
        except ValueError as error:
            raise IssuerUnavailable(f"The OIDC issuer cannot be trusted: {error}.") from error

    async def _place(self, session: aiohttp.ClientSession) -> str:
        said = await _fetched(session, f"{self._issuer.rstrip('/')}{_WELL_KNOWN}")
        if not isinstance(said, dict) or said.get("issuer") != self._issuer:
            raise ValueError("its discovery document names another issuer")
        place = said.get("jwks_uri")
        if not isinstance(place, str) or not is_safe_url(place):
            raise ValueError("its discovery document has no jwks_uri that begins with https://")
        return place

    def _session(self) -> aiohttp.ClientSession:
        # Read anew each time: its file may have been replaced.
        connector = aiohttp.TCPConnector(ssl=_trust(self._ca_file))
        headers = {"Accept": "application/json"}
        # An issuer may lie beyond the cluster, where a proxy leads: HTTPS_PROXY and NO_PROXY say which.
        return aiohttp.ClientSession(connector=connector, headers=headers, trust_env=True)


async def _fetched(session: aiohttp.ClientSession, url: str) -> Any:
    """Return the JSON at `url`; raises ValueError, also for a redirect, which would choose the keys."""
    async with session.get(url, allow_redirects=False) as answer:
        if answer.status != 200:
            raise ValueError(f"it answered {answer.status}")
        body = bytearray()
        async for chunk in answer.content.iter_any():
            body += chunk
            if len(body) > MOST_BYTES:
                raise ValueError(f"it answered with more than {MOST_BYTES} bytes")
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise ValueError("it answered, but not with JSON") from None


def _trust(ca_file: Path | None) -> ssl.SSLContext | bool:
    """Return an SSL context that trusts the authorities in `ca_file` alone, or True for the system's."""
    if ca_file is None:
        return True
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:  # ssl.SSLError is one
        raise ValueError(f"FOOTPLATE_OIDC_CA_FILE must be a file of certificates in PEM: {error}") from error
