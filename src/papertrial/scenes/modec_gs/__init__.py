"""MoDec-GS: compact dynamic splatting by global and local motion. Source: arXiv 2501.03714."""

from __future__ import annotations

from typing import TYPE_CHECKING

from papertrial.lazy import lazily

if TYPE_CHECKING:
    from papertrial.scenes.modec_gs.deformation import (
        AnchorDeformation,
        DeformationNetwork,
        GaussianDeformation,
        open_mask,
    )
    from papertrial.scenes.modec_gs.hypernerf import MovingCapture, load_hypernerf
    from papertrial.scenes.modec_gs.intervals import AdjustmentSettings, Intervals, largest_deviation
    from papertrial.scenes.modec_gs.scene import ModecScene, Player, make_anchors
    from papertrial.scenes.modec_gs.settings import VARIANTS, FieldSettings, SceneSettings
    from papertrial.scenes.modec_gs.storage import load_scene, save_scene
    from papertrial.scenes.modec_gs.training import ModecTraining, TrainingSettings
    from papertrial.scenes.modec_gs.views import TimedView, check_views, masked_psnr, masked_ssim

__all__ = [
    "VARIANTS",
    "AdjustmentSettings",
    "AnchorDeformation",
    "DeformationNetwork",
    "FieldSettings",
    "GaussianDeformation",
    "Intervals",
    "ModecScene",
    "ModecTraining",
    "MovingCapture",
    "Player",
    "SceneSettings",
    "TimedView",
    "TrainingSettings",
    "check_views",
    "largest_deviation",
    "load_hypernerf",
    "load_scene",
    "make_anchors",
    "masked_psnr",
    "masked_ssim",
    "open_mask",
    "save_scene",
]

_MODULE_OF = {
    "VARIANTS": "settings",
    "AdjustmentSettings": "intervals",
    "AnchorDeformation": "deformation",
    "DeformationNetwork": "deformation",
    "FieldSettings": "settings",
    "GaussianDeformation": "deformation",
    "Intervals": "intervals",
    "ModecScene": "scene",
    "ModecTraining": "training",
    "MovingCapture": "hypernerf",
    "Player": "scene",
    "SceneSettings": "settings",
    "TimedView": "views",
    "TrainingSettings": "training",
    "check_views": "views",
    "largest_deviation": "intervals",
    "load_hypernerf": "hypernerf",
    "load_scene": "storage",
    "make_anchors": "scene",
    "masked_psnr": "views",
    "masked_ssim": "views",
    "open_mask": "deformation",
    "save_scene": "storage",
}

# A room's trial and card are read without torch.
__getattr__ = lazily(__name__, _MODULE_OF)
