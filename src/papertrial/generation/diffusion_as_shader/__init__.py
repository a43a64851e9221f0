"""Diffusion as Shader: 3-D aware control of video diffusion.

Source: arXiv 2501.03847.
"""
