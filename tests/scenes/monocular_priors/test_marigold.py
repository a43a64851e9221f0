"""Marigold's pipelines of diffusers: tiny random ones, signs and frames, and what is said where there is none."""

from __future__ import annotations

import json
import sys
import warnings
from types import SimpleNamespace

import pytest
import torch

from papertrial.errors import BadInputError, MissingExtraError

HEIGHT, WIDTH = 30, 44  # of the fixture `image`


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
def test_marigold_says_depth_the_same_every_time(marigold, image):
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
def test_marigolds_normals_are_turned_into_the_cameras_frame(marigold, image):
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


def test_marigolds_disparity_is_inverted(image):
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
