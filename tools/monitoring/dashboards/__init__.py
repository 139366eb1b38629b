"""The dashboards, each a module with its `BOARD`."""
