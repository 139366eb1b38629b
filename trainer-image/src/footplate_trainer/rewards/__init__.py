"""Rewards of a rollout: what each of `spec.reward.functions` says of an answer, and what follows from it."""
