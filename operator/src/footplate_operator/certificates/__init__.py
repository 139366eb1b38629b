"""The API's certificate and the CA bundle that verifies it, stored in the release's namespace."""
