"""Programs that read from top to bottom: one for each stage of a model's life."""
