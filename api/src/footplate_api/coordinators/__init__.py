"""Current and former coordinator pods of runs, the only senders of telemetry."""
