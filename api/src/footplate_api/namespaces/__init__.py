"""Namespaces by uid: history belongs to a namespace's uid, not to its name."""
