"""Telemetry: its routes, the room that its bodies have, and its writer."""
