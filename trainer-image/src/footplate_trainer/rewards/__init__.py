"""Rewards of a rollout: calls of `spec.reward.functions` for its answers, and their weighted sums."""
