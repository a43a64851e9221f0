"""Decoding reading goals from eye movements.

Source: arXiv 2505.02872.
"""
