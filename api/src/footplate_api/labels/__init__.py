"""What runs are found by: their labels, and what else a list is filtered by and no column holds."""
