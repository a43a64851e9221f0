"""DianJin-R1: financial reasoning in large language models.

Source: arXiv 2504.15716.
"""
