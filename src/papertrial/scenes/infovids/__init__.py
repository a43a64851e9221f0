"""InfoVids: presenters inside their visualisations.

Source: arXiv 2505.03164.
"""
