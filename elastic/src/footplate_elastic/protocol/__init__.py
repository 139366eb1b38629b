"""What ranks, agents and the coordinator of a run say to each other; all of them import it."""
