"""Geospatial mechanistic interpretability.

Source: arXiv 2505.03368.
"""
