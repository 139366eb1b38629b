"""Layouts of a run and their costs, in pure arithmetic: nothing here reads a rank, a tensor or a file."""
