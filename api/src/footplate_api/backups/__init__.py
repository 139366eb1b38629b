"""Back-ups of the SQLite file: made while it is written, verified, kept by number, and restored."""
