"""Callbacks of the stages, one module each; the stage's list determines their order."""
