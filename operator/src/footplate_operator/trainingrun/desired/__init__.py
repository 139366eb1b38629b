"""The decision: what should exist for a run, and what is said of it."""
