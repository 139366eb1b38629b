"""TrainingRun: how it is decoded, what should exist for it, and what its status says."""
