"""Seeing and acting: vision-language models, segmentation, tracking, robots."""
