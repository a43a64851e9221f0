"""UnifiedReward-Think: a multimodal reward model that reasons.

Source: arXiv 2505.03318.
"""
