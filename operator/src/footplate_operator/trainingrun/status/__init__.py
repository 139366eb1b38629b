"""Parts of a run's status, each a function of the status written last and of what was observed."""
