"""What the children of a run are made of, without a decision."""
