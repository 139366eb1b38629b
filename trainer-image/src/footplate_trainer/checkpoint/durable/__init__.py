"""Checkpoints on a volume or in a bucket, written while training continues and read at startup."""
