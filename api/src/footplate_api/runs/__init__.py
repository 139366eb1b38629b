"""TrainingRuns: REST routes, queries and writes, answered from the mirror."""
