"""AttenHScore: invoking the large model only when needed.

Source: arXiv 2505.02311.
"""
