"""Who asked for which write through the API, and what came of it."""
