"""Anchors that Gaussians or surfels are decoded from, and how they grow and are pruned.

Source: Scaffold-GS, arXiv 2312.00109; arXiv 2412.03428 calls its anchors seed points.
"""

from __future__ import annotations

from papertrial.lazy import lazily

__all__ = [
    "AnchorState",
    "Anchors",
    "Decoded",
    "Decoder",
    "Growth",
    "GrowthSettings",
    "filter_tracks",
    "largest_weights",
    "make_optimizer",
    "median_distance",
    "nearest_distances",
    "remove_outliers",
    "scaffold_rates",
    "visible_anchors",
    "volume_loss",
    "voxelise",
]

_MODULE_OF = {
    "AnchorState": "anchors",
    "Anchors": "anchors",
    "Decoded": "decoding",
    "Decoder": "decoding",
    "Growth": "growth",
    "GrowthSettings": "growth_settings",
    "filter_tracks": "seeds",
    "largest_weights": "contribution",
    "make_optimizer": "rates",
    "median_distance": "seeds",
    "nearest_distances": "seeds",
    "remove_outliers": "seeds",
    "scaffold_rates": "rates",
    "visible_anchors": "visibility",
    "volume_loss": "decoding",
    "voxelise": "seeds",
}
__getattr__ = lazily(__name__, _MODULE_OF)
