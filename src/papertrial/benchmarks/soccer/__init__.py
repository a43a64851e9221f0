"""SoccerBench and SoccerAgent: soccer understanding.

Source: arXiv 2505.03735.
"""
