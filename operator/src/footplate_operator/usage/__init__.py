"""Usage of pods and Nodes, recorded in the cluster where it outlives them."""
