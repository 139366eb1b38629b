"""Footplate's trainer; importing the package imports nothing else (the coordinator has no torch)."""
