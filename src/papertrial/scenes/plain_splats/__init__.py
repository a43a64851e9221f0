"""Plain splatting, the baseline of the field: surfels (2DGS) or Gaussians (3DGS), cloned, split and pruned.

Source: arXiv 2403.17888 (surfels), arXiv 2308.04079 (Gaussians).
"""

from __future__ import annotations

from papertrial.lazy import lazily

__all__ = [
    "DensifySettings",
    "LossTerm",
    "PlainFit",
    "PlainSettings",
    "Rates",
    "SplatScene",
    "densify",
    "make_optimizer",
    "reset_opacities",
]

_MODULE_OF = {
    "DensifySettings": "settings",
    "LossTerm": "fitting",
    "PlainFit": "fitting",
    "PlainSettings": "settings",
    "Rates": "settings",
    "SplatScene": "scene",
    "densify": "densification",
    "make_optimizer": "scene",
    "reset_opacities": "densification",
}
__getattr__ = lazily(__name__, _MODULE_OF)
