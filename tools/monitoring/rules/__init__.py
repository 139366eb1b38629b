"""Recording and alerting rules: typed tables, of which `make gen` writes charts/footplate/rules."""
