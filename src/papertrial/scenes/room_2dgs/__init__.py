"""2DGS-Room: seed-guided splatting of indoor scenes.

Source: arXiv 2412.03428.
"""
