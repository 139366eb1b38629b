"""Elastic training: a run's coordinator, one agent per node, and the protocol between them."""
