"""Whose history the database holds, and how far it has come."""
