"""Rollouts: answers that a model generates, then journalled, rewarded and batched into its training steps."""
