"""The elastic agent: one process per node that runs its ranks as part of the gang.

It registers with the coordinator before it imports torch, forks ranks from a process that has imported
everything, and forwards their reports. `session` talks to the coordinator, `ranks` manages the processes, and
`elastic` joins both under torch's own elastic agent.
"""
