"""TrainingRuns: what a caller may ask of them, answered from the mirror."""
