"""MoDec-GS: compact dynamic splatting.

Source: arXiv 2501.03714.
"""
