"""How ranks share the work; the model itself does not know."""
