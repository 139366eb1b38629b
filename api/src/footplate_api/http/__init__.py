"""Server, middleware and forms of requests and responses, whatever they are about."""
