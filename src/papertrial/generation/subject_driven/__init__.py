"""Subject-driven video generation from disentangled identity and motion.

Source: arXiv 2504.17816.
"""
