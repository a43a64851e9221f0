"""Dolphin: closed-loop auto-research.

Source: arXiv 2501.03916.
"""
