"""InternVL 2.5: scaling open multimodal models.

Source: arXiv 2412.05271.
"""
