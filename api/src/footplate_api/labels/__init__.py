"""Values by which runs are found: labels, and other filters of lists that no column holds."""
