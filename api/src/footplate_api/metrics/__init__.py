"""The metric history of runs: telemetry in, curves out."""
