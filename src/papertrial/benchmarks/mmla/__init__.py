"""MMLA: language models and multimodal language analysis.

Source: arXiv 2504.16427.
"""
