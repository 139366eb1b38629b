"""A real local Kubernetes for developing and testing Footplate, driven by ``python3 dev/cluster``."""
