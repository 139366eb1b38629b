"""What pods and nodes used, as UsageRecords told it."""
