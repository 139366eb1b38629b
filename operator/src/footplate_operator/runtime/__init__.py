"""Common parts of all controllers: work queue, cache, Kubernetes client, status writer, Lease."""
