"""Every attempt of every run, beyond the newest ones that a status holds."""
