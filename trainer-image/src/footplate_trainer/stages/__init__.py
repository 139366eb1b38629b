"""Programs of the stages of a model's training, each readable from top to bottom."""
