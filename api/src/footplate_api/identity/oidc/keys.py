"""Public keys that an issuer publishes (RFC 7517); pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from jwt.algorithms import get_default_algorithms
from jwt.exceptions import PyJWTError

from footplate_api.identity.oidc.config import ALGORITHMS

MOST: Final = 100
# Of a private key that somebody published, only what is public is read.
_MEMBERS: Final = {"RSA": ("kty", "n", "e"), "EC": ("kty", "crv", "x", "y")}


@dataclass(frozen=True)
class JsonWebKey:
    """A public key, and the algorithms that it may sign with."""

    id: str
    algorithms: frozenset[str]
    public: Any  # as the package cryptography has it


def matching_keys(keys: Sequence[JsonWebKey], key: str, algorithm: str) -> tuple[JsonWebKey, ...]:
    """Return the `keys` that have the id `key` and may sign by `algorithm`."""
    return tuple(known for known in keys if known.id == key and algorithm in known.algorithms)


def parse_jwks(document: Any) -> tuple[JsonWebKey, ...]:
    """Return the keys of a JWK set that can have signed a token.

    Keys of an unknown type are left out, as RFC 7517 requires. Raises ValueError if none is left.
    """
    found = document.get("keys") if isinstance(document, Mapping) else None
    if not isinstance(found, list):
        raise ValueError("its keys are not a JWK set")
    keys = tuple(key for key in map(_key, found[:MOST]) if key is not None)
    if not keys:
        raise ValueError("none of its keys can sign tokens")
    return keys


def _key(said: Any) -> JsonWebKey | None:
    if (
        not isinstance(said, Mapping)
        or said.get("use", "sig") != "sig"
        or not isinstance(said.get("kid"), str)
    ):
        return None
    algorithms = frozenset(
        name
        for name, (kind, curve) in ALGORITHMS.items()
        if said.get("kty") == kind and curve in (None, said.get("crv")) and said.get("alg", name) == name
    )
    if not algorithms:
        return None
    try:
        reader = get_default_algorithms()[min(algorithms)]
        public = reader.from_jwk({name: said[name] for name in _MEMBERS[said["kty"]]})
    except (PyJWTError, KeyError, TypeError, ValueError):
        return None
    return JsonWebKey(said["kid"], algorithms, public)
