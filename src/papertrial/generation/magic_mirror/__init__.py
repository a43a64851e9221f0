"""Magic Mirror: identity-preserving video generation.

Source: arXiv 2501.03931.
"""
