"""The Sparse Frontier: trade-offs of sparse attention.

Source: arXiv 2504.17768.
"""
