"""A TrainingRun file, judged where no API server is."""
