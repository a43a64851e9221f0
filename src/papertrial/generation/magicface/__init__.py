"""MagicFace: facial expression editing by action units.

Source: arXiv 2501.02260.
"""
