"""A few samples of steps: in with their rows, out by step and by prompt."""
