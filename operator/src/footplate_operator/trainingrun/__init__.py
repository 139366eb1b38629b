"""Controller of TrainingRunController: decodes runs, decides on their children and writes their status."""
