"""DEMO: dialogue element modelling.

Source: arXiv 2412.04905.
"""
