"""Callbacks of the stages; the stage's list determines their order."""
