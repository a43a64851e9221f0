"""Cosmos: a world foundation model platform.

Source: arXiv 2501.03575.
"""
