"""Copies of the training state in the nodes' memory."""
