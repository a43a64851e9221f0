"""MAmmoTH-VL: multimodal instruction data at scale.

Source: arXiv 2412.05237.
"""
