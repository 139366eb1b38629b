"""Backups of the SQLite file: created while it is written, verified, limited in number, and restored."""
