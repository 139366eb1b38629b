"""Background tasks, one a module: load, process, apply."""
