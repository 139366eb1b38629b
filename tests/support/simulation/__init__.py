"""A cluster, its control plane and its runs in one process, under one virtual clock and one seed.

The operator's machinery, the coordinators' state machines and what agents make of their answers are
the real ones; API server, scheduler, kubelets, network, agents and ranks are played, and behave as the real
ones do where it matters: calls take time, hang, break, or lose their answer after their effect.
"""
