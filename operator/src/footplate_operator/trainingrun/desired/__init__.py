"""Decisions: the children that should exist for a run, and its status."""
