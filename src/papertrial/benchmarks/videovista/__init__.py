"""VideoVista-CulturalLingo: video comprehension across cultures.

Source: arXiv 2504.17821.
"""
