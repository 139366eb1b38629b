"""OIDC settings from the environment; the variables follow kube-apiserver's flags --oidc-*."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings

from footplate_api.identity.oidc.config import (
    ALGORITHMS,
    OF_KUBERNETES,
    USUAL_ALGORITHMS,
    OidcConfig,
    is_safe_url,
    username_prefix,
)


class OidcSettings(BaseSettings):
    """Settings of one issuer, or of none if `oidc_issuer` is not set."""

    oidc_issuer: str | None = Field(None, description="the URL of an issuer")
    oidc_audiences: str = Field("", description="client ids, separated by commas")
    oidc_username_claim: str = "sub"
    oidc_username_prefix: str = ""
    oidc_groups_claim: str | None = None
    oidc_groups_prefix: str = ""
    oidc_required_claims: str = Field("", description="claim=value, separated by commas")
    oidc_algorithms: str = Field(",".join(USUAL_ALGORITHMS), description="algorithms, separated by commas")
    oidc_ca_file: Path | None = None

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        _ = self.oidc
        return self

    @property
    def oidc(self) -> OidcConfig | None:
        """Issuer that is trusted beside Kubernetes; raises ValueError that names the variable."""
        if self.oidc_issuer is None:
            given = {"AUDIENCES": self.oidc_audiences, "GROUPS_CLAIM": self.oidc_groups_claim}
            for name, value in given.items():
                _hold(not value, name, value, "unset without FOOTPLATE_OIDC_ISSUER")
            return None
        issuer = _issuer(self.oidc_issuer)
        audiences = _split(self.oidc_audiences)
        _hold(bool(audiences), "AUDIENCES", self.oidc_audiences, "client ids, separated by commas")
        algorithms = _split(self.oidc_algorithms)
        known = bool(algorithms) and set(algorithms) <= set(ALGORITHMS)
        _hold(known, "ALGORITHMS", self.oidc_algorithms, f"one or more of {', '.join(ALGORITHMS)}")
        for name, prefix in (
            ("USERNAME_PREFIX", self.oidc_username_prefix),
            ("GROUPS_PREFIX", self.oidc_groups_prefix),
        ):
            _hold(not prefix.startswith(OF_KUBERNETES), name, prefix, f"a prefix other than {OF_KUBERNETES}")
        return OidcConfig(
            issuer,
            audiences,
            self.oidc_username_claim,
            username_prefix(self.oidc_username_prefix, self.oidc_username_claim, issuer),
            self.oidc_groups_claim,
            "" if self.oidc_groups_prefix == "-" else self.oidc_groups_prefix,
            _required(self.oidc_required_claims),
            algorithms,
            self.oidc_ca_file,
        )


def _issuer(text: str) -> str:
    right = is_safe_url(text) and not urlsplit(text).query and not urlsplit(text).fragment
    _hold(right, "ISSUER", text, "a URL that begins with https://, without query and fragment")
    return text


def _required(text: str) -> tuple[tuple[str, str], ...]:
    pairs = [pair.partition("=") for pair in _split(text)]
    right = all(name and equals for name, equals, _ in pairs)
    _hold(right, "REQUIRED_CLAIMS", text, "claim=value, separated by commas")
    return tuple((name, value) for name, _, value in pairs)


def _split(text: str) -> tuple[str, ...]:
    return tuple(filter(None, map(str.strip, text.split(","))))


def _hold(right: bool, name: str, value: Any, meant: str) -> None:
    if not right:
        raise ValueError(f"FOOTPLATE_OIDC_{name} must be {meant}, not {value!r}")
