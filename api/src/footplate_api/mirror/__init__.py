"""Reflectors: the cluster's objects as rows of the database."""
