"""FlexiAct: action control in heterogeneous scenarios.

Source: arXiv 2505.03730.
"""
