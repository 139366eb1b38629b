"""`make demo` and `make install`: the whole product on the local cluster."""
