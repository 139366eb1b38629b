"""The rules of the operator, one a file, each a pure function."""
