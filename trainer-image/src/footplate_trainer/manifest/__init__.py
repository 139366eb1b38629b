"""Reads and validates a TrainingRun file without an API server."""
