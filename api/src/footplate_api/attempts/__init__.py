"""All attempts of all runs, including attempts that a run's status no longer lists."""
