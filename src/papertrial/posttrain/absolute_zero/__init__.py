"""Absolute Zero: reinforced self-play reasoning with zero data.

Source: arXiv 2505.03335.
"""
