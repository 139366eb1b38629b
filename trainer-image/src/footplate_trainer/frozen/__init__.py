"""Models that a run computes and does not train: their sources, and how to load them."""
