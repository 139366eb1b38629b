"""Footplate's operator: turns TrainingRuns into gangs of pods and keeps them training."""
