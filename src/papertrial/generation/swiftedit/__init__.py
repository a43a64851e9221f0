"""SwiftEdit: text-guided image editing in one step.

Source: arXiv 2412.04301.
"""
