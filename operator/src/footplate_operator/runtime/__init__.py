"""The machinery that reconciles: work-queue, cache, cluster, status writer, Lease."""
