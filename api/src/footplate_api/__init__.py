"""Footplate's API: the history of runs, kept apart from the cluster that made it."""
