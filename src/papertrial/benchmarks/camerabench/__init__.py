"""CameraBench: understanding camera motion.

Source: arXiv 2504.15376.
"""
