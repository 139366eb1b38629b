"""Controller of TrainingRuns: decodes runs, decides on their children and writes their status."""
