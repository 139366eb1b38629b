"""Rules for runs, one a file, each a pure function."""
