"""Identity of the cluster whose history the database holds, and the progress of its mirrors."""
