"""The training loop: the step, the callbacks around it, and the run's limits."""
