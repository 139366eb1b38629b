"""Copies of the state in the memory of the nodes."""
