"""Distribution of a model over ranks; the model itself is unaware of it."""
