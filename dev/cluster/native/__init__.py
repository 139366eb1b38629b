"""The parts of the native cluster: its network, control plane and nodes, their faults and their end."""
