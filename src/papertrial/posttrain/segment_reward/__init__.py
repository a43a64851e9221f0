"""Segment-level rewards for preference training.

Source: arXiv 2501.02790.
"""
