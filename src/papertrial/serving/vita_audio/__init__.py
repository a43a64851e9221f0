"""VITA-Audio: interleaved cross-modal token generation.

Source: arXiv 2505.03739.
"""
