"""Checks the claims of a verified token, and converts them into a caller; pure.

The rules are those of kube-apiserver, so that a token names the same user here and there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from footplate_api.errors import Unauthenticated
from footplate_api.identity.caller import Caller
from footplate_api.identity.oidc.config import OF_KUBERNETES, OidcConfig

LEEWAY_SECONDS: Final = 60.0  # by which the issuer's clock may differ from ours
_LATEST: Final = 253_402_300_799.0  # the end of the year 9999
_EVERYBODY: Final = "system:authenticated"  # Kubernetes adds it to whoever it knows


def caller_from_claims(claims: Mapping[str, Any], oidc: OidcConfig, now: float) -> Caller:
    """Return the caller in `claims` `now`, in seconds since 1970; raises Unauthenticated with the cause."""
    _hold(claims.get("iss") == oidc.issuer, "iss is not the configured issuer")
    _hold(bool(set(_texts(claims, "aud")) & set(oidc.audiences)), "aud does not name this API")
    _holds_now(claims, now)
    for name, value in oidc.required:
        _hold(claims.get(name) == value, f"{name} does not have the required value")
    return Caller(_username(claims, oidc), groups=(*_groups(claims, oidc), _EVERYBODY))


def _holds_now(claims: Mapping[str, Any], now: float) -> None:
    ends = _moment(claims, "exp")
    _hold(ends is not None, "exp is missing")
    _hold(ends is not None and now < ends + LEEWAY_SECONDS, "exp has passed")
    for name in ("nbf", "iat"):
        begins = _moment(claims, name)
        _hold(begins is None or begins - LEEWAY_SECONDS <= now, f"{name} is in the future")


def _username(claims: Mapping[str, Any], oidc: OidcConfig) -> str:
    name = claims.get(oidc.username_claim)
    if not isinstance(name, str) or not name:
        raise _wrong(f"{oidc.username_claim} must be a string that names the user")
    if oidc.username_claim == "email":
        _hold(claims.get("email_verified", True) is True, "email_verified is not true")
    return _allowed(f"{oidc.username_prefix}{name}", oidc.username_claim)


def _groups(claims: Mapping[str, Any], oidc: OidcConfig) -> tuple[str, ...]:
    if oidc.groups_claim is None or claims.get(oidc.groups_claim) is None:
        return ()
    named = _texts(claims, oidc.groups_claim)
    return tuple(_allowed(f"{oidc.groups_prefix}{name}", oidc.groups_claim) for name in named)


def _allowed(name: str, claim: str) -> str:
    _hold(not name.startswith(OF_KUBERNETES), f"{claim} has a name with the reserved prefix {OF_KUBERNETES}")
    return name


def _texts(claims: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """Return the strings of a claim that is a string or a list of them."""
    said = claims.get(name)
    texts = said if isinstance(said, list) else [said]
    if not all(isinstance(text, str) for text in texts):
        raise _wrong(f"{name} must be a string or a list of strings")
    return tuple(texts)


def _moment(claims: Mapping[str, Any], name: str) -> float | None:
    """Return the seconds since 1970 in a claim; None if it is absent."""
    said = claims.get(name)
    if said is None:
        return None
    if not isinstance(said, int | float) or isinstance(said, bool) or not 0 <= said <= _LATEST:
        raise _wrong(f"{name} must be a number of seconds since 1970")
    return float(said)


def _hold(right: bool, wrong: str) -> None:
    if not right:
        raise _wrong(wrong)


def _wrong(what: str) -> Unauthenticated:
    return Unauthenticated.refused(f"The token is refused: its claim {what}.")
