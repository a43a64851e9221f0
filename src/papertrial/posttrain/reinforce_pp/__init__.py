"""REINFORCE++: critic-free policy optimisation with global normalisation.

Source: arXiv 2501.03262.
"""
