"""Prices and carbon intensities as they stand in the cluster, and entries that follow from profiles."""
