"""Limits that nobody meets: for tests and benches of anything else, which hurry as one caller."""

from __future__ import annotations

from typing import Final

from footplate_api.identity.access import AccessPolicy
from footplate_api.identity.rate_limits import RateLimit, RateLimits

_HIGH: Final = RateLimit(1e6, 10**6)
HASTE: Final = AccessPolicy(rates=RateLimits(_HIGH, _HIGH))
HASTE_VARIABLES: Final = {
    f"FOOTPLATE_{kind}{name}": "1000000"
    for kind in ("", "TELEMETRY_")
    for name in ("RATE_PER_SECOND", "RATE_BURST")
}
