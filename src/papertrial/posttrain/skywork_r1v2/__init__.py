"""Skywork R1V2: hybrid reinforcement learning for multimodal reasoning.

Source: arXiv 2504.16656.
"""
