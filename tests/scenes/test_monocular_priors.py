"""Estimators of depth and normals: tiny random networks saved and loaded as checkpoints are, signs, checks, files."""

from __future__ import annotations

import json
import sys
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from papertrial.errors import BadInputError, MissingExtraError
from papertrial.scenes.monocular_priors import (
    LEAST_DISPARITY,
    DepthEstimator,
    checked_depth,
    checked_normals,
    disparity_to_depth,
    keep_depths,
    keep_normals,
)

HEIGHT, WIDTH = 30, 44


def image(seed=0, height=HEIGHT, width=WIDTH):
    """A picture of 8 bits, as photographs are."""
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (height, width, 3), generator=draw).float() / 255


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


NETWORKS = {
    "relative": (lambda: depth_anything(False), True, False),
    "metric": (lambda: depth_anything(True), False, True),
    "dpt": (dpt, True, False),
    "zoedepth": (zoedepth, False, True),
    "depth_pro": (depth_pro, False, True),
    "glpn": (glpn, False, True),
}


@pytest.fixture
def saved(tmp_path):
    """Return a function that saves a tiny random network as its checkpoints are saved."""

    def save(make, **changed):
        torch.manual_seed(0)
        model, processor = make()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.ndim > 1 and make is not depth_pro and "fov" not in name:
                    parameter.mul_(4)  # random networks say nearly the same everywhere
        model.save_pretrained(tmp_path / "model")
        (tmp_path / "model" / "preprocessor_config.json").write_text(json.dumps(processor | changed))
        return tmp_path / "model", model.eval()

    return save


@pytest.mark.parametrize("name", list(NETWORKS))
def test_every_network_is_loaded_from_a_folder_and_says_depth(saved, name):
    make, disparity, metric = NETWORKS[name]
    folder, model = saved(make)
    estimator = DepthEstimator.load(folder)
    assert (estimator.disparity, estimator.metric, estimator.name) == (disparity, metric, str(folder))
    seen = image(height=70, width=99)
    depth = estimator(seen)
    assert depth.shape == (70, 99)
    assert float(depth.min()) >= 0
    assert torch.equal(depth, DepthEstimator.load(str(folder))(seen)), "nothing is random"
    with torch.no_grad():
        raw = model(**estimator.prepare(seen)).predicted_depth
    assert float(raw.std()) > 0, (
        "the saved network is the one that was loaded, not one of other random weights"
    )
    loaded = estimator.model.state_dict()
    assert all(torch.equal(value, loaded[key]) for key, value in model.state_dict().items())
    if disparity:
        assert float(depth.min()) >= 1
        assert float(depth.max()) <= 1 / LEAST_DISPARITY + 1e-3


@pytest.mark.parametrize("make", [dpt, lambda: depth_anything(False)])
def test_disparity_is_resized_and_then_inverted(saved, make):
    folder, model = saved(make)
    estimator, seen = DepthEstimator.load(folder), image()
    with torch.no_grad():
        raw = model(**estimator.prepare(seen)).predicted_depth
    large = torch.nn.functional.interpolate(raw[:, None], size=(HEIGHT, WIDTH), mode="bicubic")[0, 0]
    wanted = large.max() / large.clamp(min=float(large.max()) / 50)
    torch.testing.assert_close(estimator(seen), wanted, rtol=1e-5, atol=1e-5)


def test_a_network_that_gives_depth_although_its_class_gives_disparity(saved):
    """As facebook/dpt-dinov2-small-nyu does."""
    folder, _ = saved(dpt)
    relative, metric = DepthEstimator.load(folder), DepthEstimator.load(folder, gives="depth")
    assert (metric.disparity, metric.metric) == (False, True)
    seen = image()
    one, other = relative(seen), metric(seen)
    inside = (one > 1) & (one < 49)  # where nothing is clipped, what is far in one is near in the other
    assert int(inside.sum()) > 100
    torch.testing.assert_close(
        (one * other)[inside], other.max().expand(int(inside.sum())), rtol=1e-4, atol=0
    )


def test_the_closeness_of_a_thing_has_the_right_sign():
    """Something bright is near: the fake says so as disparity, or as depth, and depth comes out alike."""
    seen = torch.zeros(4, 6, 3)
    seen[:, 3:] = 1.0
    bright = seen[..., 0]
    settings = {
        "prepare": lambda given: {"given": given},
        "finish": lambda output, size: output.reshape(size),
    }
    closeness = DepthEstimator(
        "fake", lambda given: given[..., 0] * 3 + 1, **settings, disparity=True, metric=False
    )
    metres = DepthEstimator(
        "fake", lambda given: 8 - 6 * given[..., 0], **settings, disparity=False, metric=True
    )
    for estimator in (closeness, metres):
        depth = estimator(seen)
        assert float(depth[bright == 1].max()) < float(depth[bright == 0].min())
    torch.testing.assert_close(metres(seen), 8 - 6 * bright)
    torch.testing.assert_close(closeness(seen), 4 / (1 + 3 * bright))


def test_disparity_near_zero_and_below_is_far_and_finite():
    depth = disparity_to_depth(torch.tensor([[4.0, 2.0, 0.08], [0.04, 0.0, -3.0]]))
    torch.testing.assert_close(depth, torch.tensor([[1.0, 2.0, 50.0], [50.0, 50.0, 50.0]]))
    with pytest.raises(BadInputError, match="no disparity is above 0"):
        disparity_to_depth(torch.tensor([[0.0, -1.0]]))


def test_depth_pro_is_prepared_and_finished_as_published(saved):
    """Without its processor of transformers, which needs torchvision: closed forms of its two steps."""
    from papertrial.scenes.depth_networks import _finish_depth_pro

    estimator = DepthEstimator.load(saved(depth_pro)[0])
    plain = torch.full((HEIGHT, WIDTH, 3), 51 / 255)
    pixels = estimator.prepare(plain)["pixel_values"]
    assert pixels.shape == (1, 3, 64, 64)
    torch.testing.assert_close(pixels, torch.full_like(pixels, 0.2 * 2 - 1))
    ramp = torch.zeros(HEIGHT, WIDTH, 3)
    ramp[:, WIDTH // 2 :] = 1.0
    halves = estimator.prepare(ramp)["pixel_values"][0, 0, 0]
    assert (float(halves[0]), float(halves[-1])) == (-1.0, 1.0)
    canonical = torch.full((1, 8, 8), 0.25)
    square = SimpleNamespace(predicted_depth=canonical, field_of_view=torch.tensor([90.0]))
    torch.testing.assert_close(
        _finish_depth_pro(square, (5, 7)), torch.full((5, 7), 2.0)
    )  # focal = width / 2
    plain_output = SimpleNamespace(predicted_depth=canonical, field_of_view=None)
    torch.testing.assert_close(_finish_depth_pro(plain_output, (5, 7)), torch.full((5, 7), 4.0))
    sky = SimpleNamespace(predicted_depth=torch.zeros(1, 8, 8), field_of_view=None)
    torch.testing.assert_close(_finish_depth_pro(sky, (2, 2)), torch.full((2, 2), 1e4))


def test_zoedepths_border_is_cut_off():
    from papertrial.scenes.depth_networks import _finish_zoe

    border = int(3 * np.sqrt(32 / 2)), int(3 * np.sqrt(50 / 2))
    assert border == (12, 15)
    inside = torch.rand(32, 50)
    padded = torch.nn.functional.pad(inside, (15, 15, 12, 12), value=9.0)
    output = SimpleNamespace(predicted_depth=padded[None])
    torch.testing.assert_close(_finish_zoe(SimpleNamespace(do_pad=True))(output, (32, 50)), inside)
    whole = SimpleNamespace(predicted_depth=inside[None])
    torch.testing.assert_close(_finish_zoe(SimpleNamespace(do_pad=False))(whole, (32, 50)), inside)


def test_depth_pro_without_a_field_of_view_is_loaded_too(saved):
    estimator = DepthEstimator.load(saved(lambda: depth_pro(False))[0])
    output = estimator.model(**estimator.prepare(image()))
    assert output.field_of_view is None
    assert estimator.finish(output, (HEIGHT, WIDTH)).shape == (HEIGHT, WIDTH)


def test_one_pixel_wide_images_keep_their_shape():
    from papertrial.scenes.depth_networks import _finish_depth_pro

    output = SimpleNamespace(predicted_depth=torch.rand(1, 4, 4) + 0.1, field_of_view=None)
    assert _finish_depth_pro(output, (3, 1)).shape == (3, 1)


def test_bad_ids_and_folders_say_what_would_work(tmp_path, saved, monkeypatch):
    from papertrial.scenes import depth_networks

    with pytest.raises(BadInputError, match=r"there is no folder '\./nowhere'"):
        DepthEstimator.load("./nowhere")
    with pytest.raises(BadInputError, match=r"no saved model: it has no config\.json"):
        DepthEstimator.load(tmp_path)
    monkeypatch.setattr(depth_networks, "hub_has", lambda name, kind: False)
    with pytest.raises(BadInputError, match="cannot load the depth network 'nobody/nothing-of-the-kind'"):
        DepthEstimator.load("nobody/nothing-of-the-kind")
    folder, _ = saved(dpt)
    with pytest.raises(BadInputError, match=r"gives must be 'disparity' or 'depth' .*, got 'metres'"):
        DepthEstimator.load(folder, gives="metres")
    (folder / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(BadInputError, match="cannot load the depth network"):
        DepthEstimator.load(folder)


def test_another_kind_of_network_is_refused(tmp_path):
    from transformers import ViTConfig

    ViTConfig().save_pretrained(tmp_path)
    with pytest.raises(
        BadInputError, match="is a vit, no depth network known here: depth_anything, depth_pro, dpt"
    ):
        DepthEstimator.load(tmp_path)


def test_a_checkpoint_that_lacks_weights_is_refused_but_for_those_that_nothing_uses(saved):
    """The published DPT checkpoints lack the first fusion's residual, which has no input."""
    from safetensors.torch import load_file, save_file

    folder, _ = saved(dpt)
    weights = load_file(folder / "model.safetensors")
    before = DepthEstimator.load(folder)(image())
    unused = {
        key: value for key, value in weights.items() if "fusion_stage.layers.0.residual_layer1" not in key
    }
    assert len(unused) < len(weights)
    save_file(unused, folder / "model.safetensors", metadata={"format": "pt"})
    torch.testing.assert_close(DepthEstimator.load(folder)(image()), before)
    lacking = {key: value for key, value in unused.items() if "head" not in key}
    save_file(lacking, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BadInputError, match="lacks 6 of the network's weights: head"):
        DepthEstimator.load(folder)


@pytest.mark.parametrize(
    "bad", [torch.full((2, 2, 3), 1.5), torch.full((2, 2, 3), torch.nan), torch.zeros(0, 2, 3)]
)
def test_what_is_no_image_is_refused(bad):
    estimator = DepthEstimator(
        "fake", lambda **given: None, lambda given: {}, lambda *given: given, True, False
    )
    with pytest.raises(BadInputError, match="an image"):
        estimator(bad)


@pytest.mark.parametrize(
    ("depth", "said"),
    [
        (torch.rand(4, 5), r"gave depth of shape \(4, 5\), the image has 30 x 44"),
        (torch.full((HEIGHT, WIDTH), torch.inf), "gave 1320 numbers that are not finite"),
        (torch.rand(HEIGHT, WIDTH) - 0.5, "gave depths down to -0"),
        (torch.ones(HEIGHT, WIDTH), "gave the depth 1 everywhere"),
    ],
)
def test_a_depth_that_is_none_names_its_maker(depth, said):
    with pytest.raises(BadInputError, match=f"my network {said}"):
        checked_depth(depth, image(), "my network")


def facing(height=HEIGHT, width=WIDTH):
    vectors = torch.randn(height, width, 3, generator=torch.Generator().manual_seed(2))
    vectors[..., 2] = -vectors[..., 2].abs()
    return torch.nn.functional.normalize(vectors, dim=-1)


def test_normals_are_checked_and_brought_to_length_one():
    normals = facing()
    normals[0, 0] = 0
    found = checked_normals((normals * 1.01).half(), image(), "mine")
    torch.testing.assert_close(found, normals, rtol=0, atol=2e-3)  # of half precision
    lengths = found.norm(dim=-1)
    assert float(lengths[0, 0]) == 0
    torch.testing.assert_close(lengths.flatten()[1:], torch.ones(HEIGHT * WIDTH - 1))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda normals: normals[:-1], r"normals of shape \(29, 44, 3\), the image has 30 x 44 x 3"),
        (lambda normals: normals * torch.nan, "not finite"),
        (lambda normals: normals * 127, "of length 127 at row 0, column 0"),
        (lambda normals: (normals + 1) / 2, "of length .* at row 0, column 0"),  # colours instead of normals
        (lambda normals: normals * torch.tensor([1.0, -1.0, -1.0]), "mostly face away from the camera"),
    ],
)
def test_normals_that_are_none_name_their_maker(change, said):
    with pytest.raises(BadInputError, match=f"mine gave .*{said}"):
        checked_normals(change(facing()), image(), "mine")


def asked_of(estimates):
    """Return an estimator that counts, with a name of its own."""

    def luminance(seen):
        estimates.append(tuple(seen.shape))
        return 1 + seen.mean(-1)

    return luminance


def test_depths_are_made_once_and_kept_beside_the_capture(tmp_path):
    estimates = []
    images = [("frame_0.png", image(0)), ("deep/frame_1.jpg", image(1, 7, 9))]
    assert keep_depths(images, asked_of(estimates), tmp_path) == 2
    kept = np.load(tmp_path / "depth" / "deep" / "frame_1.jpg.npy")
    assert (kept.dtype, kept.shape) == (np.float32, (7, 9))
    np.testing.assert_allclose(kept, 1 + image(1, 7, 9).mean(-1).numpy(), rtol=1e-6)
    assert keep_depths([*images, ("frame_2.png", image(2))], asked_of(estimates), tmp_path) == 1
    assert len(estimates) == 3
    np.save(
        tmp_path / "depth" / "frame_3.npy", np.ones((2, 2))
    )  # put there by hand, without the image's suffix
    assert keep_depths([("frame_3.png", image(3))], asked_of(estimates), tmp_path) == 0
    names = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert names == {
        "depth/estimator.json",
        "depth/frame_0.png.npy",
        "depth/deep/frame_1.jpg.npy",
        "depth/frame_2.png.npy",
        "depth/frame_3.npy",
    }


def test_maps_of_two_estimators_are_not_mixed(tmp_path):
    keep_depths([("a.png", image())], asked_of([]), tmp_path)
    other = DepthEstimator("another", None, lambda seen: {}, lambda output, size: output, True, False)
    with pytest.raises(BadInputError, match=r"holds maps by .*luminance, now another is asked for the rest"):
        keep_depths([("b.png", image())], other, tmp_path)
    (tmp_path / "depth" / "estimator.json").write_text("[]")
    with pytest.raises(BadInputError, match="is damaged"):
        keep_depths([("b.png", image())], asked_of([]), tmp_path)


@pytest.mark.parametrize("name", ["../outside.png", "/etc/outside.png", "a/../../outside.png", ""])
def test_a_name_cannot_lead_out_of_the_folder(tmp_path, name):
    with pytest.raises(BadInputError, match="leads elsewhere"):
        keep_depths([(name, image())], asked_of([]), tmp_path / "capture")
    assert not any(tmp_path.rglob("*.npy"))


def test_a_wrong_estimate_is_not_kept(tmp_path):
    with pytest.raises(
        BadInputError, match=r"constant.*, asked about image 'a.png', gave the depth 2 everywhere"
    ):
        keep_depths([("a.png", image())], constant, tmp_path)
    assert not any(tmp_path.rglob("*.npy"))


def constant(seen):
    return torch.full(seen.shape[:2], 2.0)


def test_normals_are_kept_likewise(tmp_path):
    normals = facing()
    assert keep_normals([("a.png", image())], lambda seen: normals, tmp_path) == 1
    assert keep_normals([("a.png", image())], lambda seen: normals, tmp_path) == 0
    np.testing.assert_allclose(np.load(tmp_path / "normal" / "a.png.npy"), normals.numpy(), atol=1e-6)


@pytest.fixture(scope="module")
def pipeline_parts():
    """Return a function that makes the parts of a tiny Marigold pipeline; skip where diffusers is not installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        diffusers = pytest.importorskip("diffusers", reason="diffusers holds Marigold's pipelines")
        from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    def make(folder):
        torch.manual_seed(0)
        vocabulary = {"<|startoftext|>": 0, "<|endoftext|>": 1, "a</w>": 2, "a": 3}
        (folder / "vocab.json").write_text(json.dumps(vocabulary))
        (folder / "merges.txt").write_text("#version: 0.2\n")
        return {
            "unet": diffusers.UNet2DConditionModel(
                block_out_channels=(8, 16),
                layers_per_block=1,
                sample_size=8,
                in_channels=8,
                out_channels=4,
                down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
                up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
                cross_attention_dim=16,
                attention_head_dim=4,
                norm_num_groups=4,
            ),
            "vae": diffusers.AutoencoderKL(
                block_out_channels=(8, 8),
                down_block_types=("DownEncoderBlock2D",) * 2,
                up_block_types=("UpDecoderBlock2D",) * 2,
                norm_num_groups=4,
                latent_channels=4,
            ),
            "scheduler": diffusers.DDIMScheduler(prediction_type="v_prediction", set_alpha_to_one=False),
            "text_encoder": CLIPTextModel(
                CLIPTextConfig(
                    hidden_size=16,
                    intermediate_size=16,
                    num_hidden_layers=1,
                    num_attention_heads=2,
                    vocab_size=4,
                    max_position_embeddings=8,
                    bos_token_id=0,
                    eos_token_id=1,
                    pad_token_id=1,
                )
            ),
            "tokenizer": CLIPTokenizer(
                str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=8
            ),
        }

    return diffusers, make


@pytest.fixture
def marigold(pipeline_parts, tmp_path):
    """Return a function that saves a tiny random pipeline and returns its folder."""
    diffusers, make = pipeline_parts

    def save(kind, **settings):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pipeline = getattr(diffusers, kind)(
                **make(tmp_path), default_denoising_steps=2, default_processing_resolution=16, **settings
            )
            pipeline.save_pretrained(tmp_path / "pipeline")
        return tmp_path / "pipeline"

    return save


@pytest.mark.filterwarnings("ignore")  # of diffusers, about its own dependencies
def test_marigold_says_depth_the_same_every_time(marigold):
    from papertrial.scenes.marigold import MarigoldDepth, MarigoldNormals

    folder = marigold(
        "MarigoldDepthPipeline", prediction_type="depth", scale_invariant=True, shift_invariant=True
    )
    estimator = MarigoldDepth.load(folder)
    depth = estimator(image())
    assert depth.shape == (HEIGHT, WIDTH)
    assert 0 <= float(depth.min()) < float(depth.max()) <= 1
    assert torch.equal(MarigoldDepth.load(folder)(image()), depth)
    assert not torch.equal(MarigoldDepth.load(folder, seed=1)(image()), depth)
    with pytest.raises(BadInputError, match="is a MarigoldDepthPipeline, not a MarigoldNormalsPipeline"):
        MarigoldNormals.load(folder)


@pytest.mark.filterwarnings("ignore")
def test_marigolds_normals_are_turned_into_the_cameras_frame(marigold):
    """Its y points up and its z towards the viewer: a wall before the camera is (0, 0, 1) there, (0, 0, -1) here."""
    from papertrial.scenes.marigold import MarigoldNormals

    loaded = MarigoldNormals.load(marigold("MarigoldNormalsPipeline", use_full_z_range=False))
    raw = loaded.pipeline(
        _pil(image()), generator=torch.Generator().manual_seed(0), output_type="pt", processing_resolution=16
    ).prediction[0]
    normals = loaded(image())
    assert normals.shape == (HEIGHT, WIDTH, 3)
    units = torch.nn.functional.normalize(raw.permute(1, 2, 0), dim=-1)
    torch.testing.assert_close(normals, units * torch.tensor([1.0, -1.0, -1.0]), rtol=0, atol=1e-5)
    torch.testing.assert_close(normals.norm(dim=-1), torch.ones(HEIGHT, WIDTH))

    def wall(*given, **named):
        assert named["generator"].initial_seed() == 7
        up_right = torch.tensor([0.6, 0.48, 0.64])
        return SimpleNamespace(prediction=up_right.reshape(1, 3, 1, 1).expand(1, 3, HEIGHT, WIDTH))

    wall.device = "cpu"
    fake = MarigoldNormals("fake", wall, 7, None, None)
    torch.testing.assert_close(fake(image())[0, 0], torch.tensor([0.6, -0.48, -0.64]))


def test_marigolds_disparity_is_inverted():
    from papertrial.scenes.marigold import MarigoldDepth

    disparity = torch.linspace(0, 1, WIDTH).expand(1, 1, HEIGHT, WIDTH)
    pipeline = lambda *given, **named: SimpleNamespace(prediction=disparity)  # noqa: E731
    pipeline.device, pipeline.config = "cpu", SimpleNamespace(prediction_type="disparity")
    depth = MarigoldDepth("fake", pipeline, 0, None, None)(image())
    assert bool((depth[:, 1:] <= depth[:, :-1]).all())
    torch.testing.assert_close(depth[0, -1], torch.tensor(1.0))


@pytest.mark.filterwarnings("ignore")
def test_marigold_without_diffusers_or_without_a_pipeline_says_so(tmp_path, monkeypatch):
    pytest.importorskip("diffusers", reason="diffusers holds Marigold's pipelines")
    from papertrial.scenes import marigold as module

    with pytest.raises(BadInputError, match=r"no pipeline of diffusers: it has no model_index\.json"):
        module.MarigoldDepth.load(tmp_path)
    with pytest.raises(BadInputError, match="there is no folder 'nothing'"):
        module.MarigoldDepth.load("nothing")
    monkeypatch.setattr(module, "hub_has", lambda name, kind: False)
    with pytest.raises(BadInputError, match="cannot load the pipeline 'nobody/nothing'"):
        module.MarigoldDepth.load("nobody/nothing")
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(MissingExtraError, match=r"papertrial\[priors\]"):
        module.MarigoldNormals.load(tmp_path)


def _pil(seen):
    from PIL import Image

    return Image.fromarray((seen * 255).round().byte().numpy())
