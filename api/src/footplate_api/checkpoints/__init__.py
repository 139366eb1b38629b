"""Durable checkpoints of runs."""
