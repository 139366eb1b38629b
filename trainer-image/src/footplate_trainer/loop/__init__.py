"""The training loop: one step, what a stage does around it, and how far it goes."""
