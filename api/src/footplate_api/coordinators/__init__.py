"""The pods that coordinate runs, or did: they alone send telemetry."""
