"""Plans of the pods that a run should have, and of the pods to delete, without manifests."""
