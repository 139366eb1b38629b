"""Single-device networks: what is computed, and nothing about who computes it."""
