"""MinT: video generation with timed events.

Source: arXiv 2412.05263.
"""
