"""The key from which credentials of runs follow, and credentials that other operators made."""
