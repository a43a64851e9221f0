"""Tiny random networks, saved as their checkpoints are, and pictures to ask them about."""

from __future__ import annotations

import json

import pytest
import torch

HEIGHT, WIDTH = 30, 44


@pytest.fixture(scope="session")
def image():
    """Return a function that makes a picture of 8 bits, as photographs are."""

    def make(seed=0, height=HEIGHT, width=WIDTH):
        draw = torch.Generator().manual_seed(seed)
        return torch.randint(0, 256, (height, width, 3), generator=draw).float() / 255

    return make


def depth_anything(metric):
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config

    backbone = Dinov2Config(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        image_size=28,
        patch_size=14,
        out_indices=[1, 2],
        reshape_hidden_states=False,
    )
    config = DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=32,
        neck_hidden_sizes=[16, 16],
        fusion_hidden_size=16,
        head_hidden_size=8,
        reassemble_factors=[1, 0.5],
        depth_estimation_type="metric" if metric else "relative",
        max_depth=20 if metric else 1,
    )
    processor = {
        "image_processor_type": "DPTImageProcessor",
        "size": {"height": 28, "width": 28},
        "keep_aspect_ratio": True,
        "ensure_multiple_of": 14,
        "resample": 3,
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
    }
    return DepthAnythingForDepthEstimation(config), processor


def dpt():
    from transformers import DPTConfig, DPTForDepthEstimation

    config = DPTConfig(
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=64,
        image_size=32,
        patch_size=16,
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[16] * 4,
        fusion_hidden_size=16,
        is_hybrid=False,
    )
    return DPTForDepthEstimation(config), {
        "image_processor_type": "DPTImageProcessor",
        "size": {"height": 32, "width": 32},
    }


def zoedepth():
    from transformers import BeitConfig, ZoeDepthConfig, ZoeDepthForDepthEstimation

    backbone = BeitConfig(
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=64,
        image_size=32,
        patch_size=16,
        out_features=["stage1", "stage2", "stage3", "stage4"],
        reshape_hidden_states=False,
        use_relative_position_bias=True,
    )
    config = ZoeDepthConfig(
        backbone_config=backbone,
        neck_hidden_sizes=[16] * 4,
        fusion_hidden_size=16,
        bottleneck_features=16,
        num_relative_features=16,
        num_attractors=[4, 2, 2, 1],
        bin_embedding_dim=16,
    )
    return ZoeDepthForDepthEstimation(config), {
        "image_processor_type": "ZoeDepthImageProcessor",
        "size": {"height": 32, "width": 32},
    }


def depth_pro(fov=True):
    from transformers import DepthProConfig, DepthProForDepthEstimation

    backbone = {
        "model_type": "dinov2",
        "num_hidden_layers": 2,
        "hidden_size": 16,
        "num_attention_heads": 2,
        "mlp_ratio": 2,
        "image_size": 32,
        "patch_size": 8,
    }
    config = DepthProConfig(
        image_model_config=dict(backbone),
        patch_model_config=dict(backbone),
        fov_model_config=dict(backbone),
        patch_size=32,
        use_fov_model=fov,
        num_fov_head_layers=0,
        fusion_hidden_size=16,
        intermediate_hook_ids=[1, 0],
        intermediate_feature_dims=[10, 8],
        scaled_images_ratios=[0.5, 1.0],
        scaled_images_overlap_ratios=[0.0, 0.2],
        scaled_images_feature_dims=[12, 12],
    )
    model = DepthProForDepthEstimation(config)
    if fov:
        torch.nn.init.constant_(model.fov_model.head.layers[-1].bias, 60.0)  # degrees: that of a photograph
    return model, {
        "image_processor_type": "DepthProImageProcessorFast",
        "size": {"height": 64, "width": 64},
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    }


def glpn():
    from transformers import GLPNConfig, GLPNForDepthEstimation

    config = GLPNConfig(
        depths=[1] * 4, hidden_sizes=[8, 16, 24, 32], num_attention_heads=[1, 2, 2, 4], decoder_hidden_size=8
    )
    return GLPNForDepthEstimation(config), {"image_processor_type": "GLPNImageProcessor", "size_divisor": 32}


MAKERS = {
    "relative": lambda: depth_anything(False),
    "metric": lambda: depth_anything(True),
    "dpt": dpt,
    "zoedepth": zoedepth,
    "depth_pro": depth_pro,
    "depth_pro without a field of view": lambda: depth_pro(False),
    "glpn": glpn,
}


@pytest.fixture
def saved(tmp_path):
    """Return a function that saves a tiny random network as its checkpoints are saved."""

    def save(name, **changed):
        torch.manual_seed(0)
        model, processor = MAKERS[name]()
        with torch.no_grad():
            for key, parameter in model.named_parameters():
                if parameter.ndim > 1 and name != "depth_pro" and "fov" not in key:
                    parameter.mul_(4)  # random networks say nearly the same everywhere
        model.save_pretrained(tmp_path / "model")
        (tmp_path / "model" / "preprocessor_config.json").write_text(json.dumps(processor | changed))
        return tmp_path / "model", model.eval()

    return save
