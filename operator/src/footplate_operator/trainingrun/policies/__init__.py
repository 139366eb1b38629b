"""The rules for runs, one a file, each a pure function."""
