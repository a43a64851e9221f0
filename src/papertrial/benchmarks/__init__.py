"""Evaluation suites: what they ask, how they score, and what a score means."""
