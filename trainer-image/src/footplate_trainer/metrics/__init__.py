"""Metrics that a run records while it trains."""
