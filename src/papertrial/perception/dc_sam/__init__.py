"""DC-SAM: in-context segmentation by dual consistency.

Source: arXiv 2504.12080.
"""
