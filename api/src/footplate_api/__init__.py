"""REST API that stores the history of training runs outside the cluster in which they ran."""
