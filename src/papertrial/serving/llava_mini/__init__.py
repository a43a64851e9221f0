"""LLaVA-Mini: image and video models with one vision token.

Source: arXiv 2501.03895.
"""
