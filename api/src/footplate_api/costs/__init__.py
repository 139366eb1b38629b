"""Costs of runs: dollars, energy and carbon, computed from the stored usage for each request."""
