"""What pods and Nodes were used, noted in the cluster where it outlives them."""
