"""What the API proves itself with, and by whom it is vouched for: kept in the release's namespace."""
