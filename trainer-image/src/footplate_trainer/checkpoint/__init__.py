"""Training state that outlives the processes: written whole, committed once, read only after verification."""
