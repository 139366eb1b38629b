"""Messages between a run's ranks, agents and coordinator; all of them import this package."""
