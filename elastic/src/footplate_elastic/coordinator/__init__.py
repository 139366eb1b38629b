"""The coordinator: one run's membership, its generations, and how they end.

`membership` decides and is pure; `server` is its HTTP edge. Nothing here knows torch: the coordinator runs
where there is no GPU, starts in a second and is replaced without disturbing a healthy generation.
"""
