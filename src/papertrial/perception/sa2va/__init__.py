"""Sa2VA: SAM2 and LLaVA for grounded understanding.

Source: arXiv 2501.04001.
"""
