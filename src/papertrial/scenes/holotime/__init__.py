"""HoloTime: panoramic 4-D scenes from video diffusion.

Source: arXiv 2504.21650.
"""
