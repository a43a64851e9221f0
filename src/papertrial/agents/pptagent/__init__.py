"""PPTAgent: making and judging presentations.

Source: arXiv 2501.03936.
"""
