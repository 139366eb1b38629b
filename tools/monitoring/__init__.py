"""Dashboards and rules of the chart: typed builders, and the linter that holds them."""
