"""Usage of pods and nodes, as UsageRecords report it."""
