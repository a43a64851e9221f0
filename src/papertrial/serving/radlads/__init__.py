"""RADLADS: distilling attention into linear attention.

Source: arXiv 2505.03005.
"""
