"""Probes, versions and Prometheus metrics of the API."""
