"""Decodes and verifies JSON Web Tokens; pure.

Keys in a token's header (`jwk`, `x5c`) and their locations (`jku`, `x5u`) are ignored: keys come from the
issuer.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from jwt import PyJWS
from jwt.exceptions import PyJWTError

from footplate_api.errors import Unauthenticated
from footplate_api.identity.oidc.keys import JsonWebKey

_JWS: Final = PyJWS(options={"enforce_minimum_key_length": True})
_UNREADABLE: Final = "The bearer token is not a valid JSON Web Token."


@dataclass(frozen=True)
class Header:
    """Algorithm and key with which a token claims to be signed."""

    algorithm: str
    key: str


def parse_header(token: str, algorithms: Sequence[str]) -> Header:
    """Return the algorithm and key in the header of `token`; raises Unauthenticated if it is not accepted."""
    said = _object(_decoded(token.partition(".")[0]))
    if "crit" in said or "b64" in said:
        raise Unauthenticated.refused("The token's header has extensions (crit), which are not supported.")
    algorithm, key = said.get("alg"), said.get("kid")
    if not isinstance(algorithm, str) or algorithm not in algorithms:
        raise Unauthenticated.refused(
            f"The token must be signed by one of these algorithms: {', '.join(algorithms)}."
        )
    if not isinstance(key, str) or not key:
        raise Unauthenticated.refused("The token's header must name the key that signed it (kid).")
    return Header(algorithm, key)


def verify_signature(token: str, keys: Iterable[JsonWebKey], algorithm: str) -> dict[str, Any]:
    """Return the claims of `token` if one of `keys` signed it; raises Unauthenticated if none did."""
    for key in keys:
        try:
            payload: bytes = _JWS.decode(token, key.public, algorithms=[algorithm])
        except (PyJWTError, ValueError):
            continue
        return _object(payload)
    raise Unauthenticated.refused("The token's signature does not match the key that its header names.")


def _decoded(segment: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    except (binascii.Error, ValueError):
        raise Unauthenticated.refused(_UNREADABLE) from None


def _object(data: bytes) -> dict[str, Any]:
    """Parse a JSON object; refuses duplicate names, which parsers resolve differently.

    Raises Unauthenticated.
    """
    try:
        found = json.loads(data.decode(), object_pairs_hook=_once, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise Unauthenticated.refused(_UNREADABLE) from None
    if not isinstance(found, dict):
        raise Unauthenticated.refused(_UNREADABLE)
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("duplicate name")
    return found


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not a number in JSON")
