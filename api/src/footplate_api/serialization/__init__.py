"""JSON in and out: base of all schemas, tolerant reads, truncated texts."""
