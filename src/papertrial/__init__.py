"""Put the paper of the day on trial: importable parts, measured claims, verdicts."""
