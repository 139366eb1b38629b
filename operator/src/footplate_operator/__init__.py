"""Footplate's operator: turns TrainingRuns into gangs of pods that train despite faults."""
