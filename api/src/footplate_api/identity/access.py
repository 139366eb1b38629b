"""Access settings that an installation decides, and Kubernetes does not."""

from __future__ import annotations

from dataclasses import dataclass, field

from footplate_api.http.public_paths import DOCUMENTS, SCRAPED
from footplate_api.identity.rate_limits import RateLimits
from footplate_contracts.names import API_AUDIENCE


@dataclass(frozen=True)
class AccessPolicy:
    """Accepted audiences of Kubernetes' tokens, rate limits of their owners, and what is public."""

    audiences: tuple[str, ...] = (API_AUDIENCE,)
    metrics_public: bool = False
    docs_public: bool = False
    rates: RateLimits = field(default_factory=RateLimits)

    @property
    def public(self) -> frozenset[str]:
        """Paths that are served without a token, beside those that always are."""
        metrics = (SCRAPED,) if self.metrics_public else ()
        return frozenset(metrics + (DOCUMENTS if self.docs_public else ()))
