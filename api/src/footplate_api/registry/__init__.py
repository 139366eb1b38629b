"""Registry of runs: their rows, and which run a name stands for."""
