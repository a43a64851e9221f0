"""Moto: latent motion tokens for robot manipulation.

Source: arXiv 2412.04445.
"""
