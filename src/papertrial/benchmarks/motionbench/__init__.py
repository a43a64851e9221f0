"""MotionBench: fine-grained video motion understanding.

Source: arXiv 2501.02955.
"""
