"""2DGS-Room: seed-guided splatting of indoor scenes with depth and normal priors.

Source: arXiv 2412.03428.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from papertrial.lazy import lazily

if TYPE_CHECKING:
    from papertrial.scenes.room_2dgs.arms import ArmSettings, make_fit
    from papertrial.scenes.room_2dgs.consistency import MultiViewTerm
    from papertrial.scenes.room_2dgs.fitting import SeedFit
    from papertrial.scenes.room_2dgs.priors import Prior, PriorTerm
    from papertrial.scenes.room_2dgs.scene import SeedScene
    from papertrial.scenes.room_2dgs.settings import MultiViewSettings, PriorSettings, SeedSettings
    from papertrial.scenes.room_2dgs.surface import fused_points

__all__ = [
    "ArmSettings",
    "MultiViewSettings",
    "MultiViewTerm",
    "Prior",
    "PriorSettings",
    "PriorTerm",
    "SeedFit",
    "SeedScene",
    "SeedSettings",
    "fused_points",
    "make_fit",
]

_MODULE_OF = {
    "ArmSettings": "arms",
    "MultiViewSettings": "settings",
    "MultiViewTerm": "consistency",
    "Prior": "priors",
    "PriorSettings": "settings",
    "PriorTerm": "priors",
    "SeedFit": "fitting",
    "SeedScene": "scene",
    "SeedSettings": "settings",
    "fused_points": "surface",
    "make_fit": "arms",
}

# A room's trial and card are read without torch.
__getattr__ = lazily(__name__, _MODULE_OF)
