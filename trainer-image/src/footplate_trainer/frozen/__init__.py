"""Models that a run computes and does not train: where they come from, and how they are opened."""
