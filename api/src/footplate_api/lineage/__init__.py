"""Lineage: references from runs to other runs, in both directions."""
