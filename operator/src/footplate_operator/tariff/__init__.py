"""Prices and carbon intensities in the cluster, and the entries derived from profiles."""
