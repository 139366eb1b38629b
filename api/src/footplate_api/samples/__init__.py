"""Samples of some steps: stored with their rows, read by step and by prompt."""
