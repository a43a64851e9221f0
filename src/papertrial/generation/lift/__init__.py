"""LiFT: human feedback for text-to-video alignment.

Source: arXiv 2412.04814.
"""
