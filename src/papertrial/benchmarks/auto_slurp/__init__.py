"""Auto-SLURP: agent frameworks as a personal assistant.

Source: arXiv 2504.18373.
"""
