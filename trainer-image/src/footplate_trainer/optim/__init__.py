"""Optimizers, learning-rate schedule, weight decay and gradient clipping."""
