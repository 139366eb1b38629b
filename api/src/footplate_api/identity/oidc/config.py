"""Configuration of the trusted OIDC issuer and of its claims; pure."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

# What kube-apiserver takes as well: the type of key that signs, and its curve. All of them are asymmetric;
# with HS256 whoever verifies could sign, and a public key would do for a secret.
ALGORITHMS: Final[dict[str, tuple[str, str | None]]] = {
    **{f"{family}{bits}": ("RSA", None) for family in ("RS", "PS") for bits in (256, 384, 512)},
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "ES512": ("EC", "P-521"),
}
USUAL_ALGORITHMS: Final = ("RS256", "ES256")
OF_KUBERNETES: Final = "system:"  # users and groups that nobody else may give out


@dataclass(frozen=True)
class OidcConfig:
    """Configuration of an issuer. Prefixes are final: the flags' special words are resolved.

    `audiences` are client ids; a token must be for one of these. `required` are claims with their values.
    """

    issuer: str
    audiences: tuple[str, ...]
    username_claim: str = "sub"
    username_prefix: str = ""
    groups_claim: str | None = None
    groups_prefix: str = ""
    required: tuple[tuple[str, str], ...] = ()
    algorithms: tuple[str, ...] = USUAL_ALGORITHMS
    ca_file: Path | None = None


def username_prefix(given: str, claim: str, issuer: str) -> str:
    """Return the prefix for the setting `given`, by the rules of --oidc-username-prefix.

    >>> username_prefix("", "sub", "https://idp"), username_prefix("", "email", "https://idp")
    ('https://idp#', '')
    >>> username_prefix("-", "sub", "https://idp"), username_prefix("oidc:", "email", "https://idp")
    ('', 'oidc:')
    """
    if given == "-":
        return ""
    return given or ("" if claim == "email" else f"{issuer}#")


def is_safe_url(url: str) -> bool:
    """Return whether keys may be fetched from `url`: by HTTPS, or from this machine itself, as tests do.

    >>> is_safe_url("https://idp.example.com/realm"), is_safe_url("http://idp.example.com"), is_safe_url("http://[::1]:1")
    (True, False, True)
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        if parts.username is not None or parts.port == 0:
            return False
    except ValueError:
        return False
    return bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host)))


def is_loopback(host: str) -> bool:
    """Return whether `host`, an address or a name, is this machine itself.

    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("localhost"), is_loopback("10.0.0.1")
    (True, True, True, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
