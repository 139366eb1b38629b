"""Single-device networks and losses; parallelism is applied from outside."""
