"""Audit log of the writes that callers requested through the API, and of their results."""
