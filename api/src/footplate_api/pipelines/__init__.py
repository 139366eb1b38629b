"""Work in the background, one file each: load, process, apply."""
