"""Checkpoints on a volume or in a bucket, written behind the training and read at a start."""
