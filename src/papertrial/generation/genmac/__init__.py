"""GenMAC: compositional text-to-video by several agents.

Source: arXiv 2412.04440.
"""
