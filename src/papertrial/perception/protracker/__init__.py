"""ProTracker: probabilistic integration for point tracking.

Source: arXiv 2501.03220.
"""
