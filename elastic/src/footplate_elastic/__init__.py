"""Keeps the ranks of a run in step through faults: a coordinator, an agent a node, and what they say."""
