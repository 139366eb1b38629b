"""State that outlives the processes: written whole, committed once, read only when proven whole."""
