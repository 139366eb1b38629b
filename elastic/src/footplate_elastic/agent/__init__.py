"""The elastic agent: one process a node that keeps its ranks in step with the gang.

It registers with the coordinator before it imports torch, forks ranks from a
process that has imported everything, and carries what they report. `session`
speaks with the coordinator, `ranks` with the processes, `elastic` joins both
under torch's own elastic agent.
"""
