"""What operators of the API ask it: is it well, which version, which numbers."""
