"""Footplate's operator: turns TrainingRunController into gangs of pods that train despite faults."""
