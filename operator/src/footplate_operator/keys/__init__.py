"""The key from which runs' credentials are derived, and credentials that other operators made."""
