"""Creation of objects by callers: idempotency keys and dry runs."""
