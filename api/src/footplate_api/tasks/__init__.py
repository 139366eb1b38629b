"""Background tasks, and the loop that they share."""
