"""Whose runs are whose: history belongs to a namespace's uid, not to its name."""
