"""Paths with rules of their own for who may read them."""

from __future__ import annotations

from typing import Final

OPEN: Final = frozenset({"/healthz", "/readyz", "/version"})  # to everybody
SCRAPED: Final = "/metrics"
DOCUMENTS: Final = ("/docs", "/openapi.json")  # and what lies below /docs
