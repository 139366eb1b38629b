"""Authentication and authorization of callers by Kubernetes, before the API reads a request's body."""
