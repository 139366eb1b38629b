"""What should exist for a run, decided without looking anything up."""
