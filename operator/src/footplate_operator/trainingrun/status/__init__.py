"""The parts of a run's status, each a function of what was written last and what was seen."""
