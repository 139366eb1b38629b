"""Layouts of a run and what they cost, in pure arithmetic: nothing here sees a rank, a tensor or a file."""
