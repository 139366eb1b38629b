"""What works with any Kubernetes: a client, an API server for tests, volumes, fake GPUs."""
