"""What a run stands on, and what stands on it: runs that name one another."""
