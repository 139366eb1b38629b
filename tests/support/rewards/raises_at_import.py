"""A module of reward functions that nobody can import."""

raise RuntimeError("no licence for the judge")
