"""Manifests of a run's children, without decisions."""
