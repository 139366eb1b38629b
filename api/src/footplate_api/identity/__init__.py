"""Who calls, and what Kubernetes lets them do: asked before anything of a request's body is read."""
