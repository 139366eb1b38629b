"""Metric history of runs: telemetry in, curves out."""
