import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from papertrial.errors import BadInputError
from papertrial.scenes.cameras import project_points
from papertrial.scenes.image_losses import ssim_map
from papertrial.scenes.modec_gs import TimedView, load_hypernerf, masked_psnr, masked_ssim
from papertrial.scenes.modec_gs.hypernerf import read_camera

SCALE, CENTRE = 0.5, [1.0, 2.0, -1.0]
WIDTH, HEIGHT = 24, 16  # of the cameras; frames have half of it


def a_camera(turn, position):
    c, s = math.cos(turn), math.sin(turn)
    return {
        "orientation": [[c, 0.0, -s], [0.0, 1.0, 0.0], [s, 0.0, c]],
        "position": position,
        "focal_length": 20.0,
        "principal_point": [12.0, 8.0],
        "image_size": [WIDTH, HEIGHT],
        "skew": 0.0,
        "pixel_aspect_ratio": 1.0,
        "radial_distortion": [0.0, 0.0, 0.0],
        "tangential_distortion": [0.0, 0.0],
    }


@pytest.fixture
def scene(tmp_path):
    """Six frames of one camera that moves, every third held out: the layout as its loaders read it."""
    draw = np.random.default_rng(0)
    (tmp_path / "camera").mkdir()
    (tmp_path / "rgb" / "2x").mkdir(parents=True)
    names = [f"{number:06d}" for number in range(6)]
    for number, name in enumerate(names):
        camera = a_camera(0.1 * number, [1.0 + 0.2 * number, 2.0, -3.0])
        (tmp_path / "camera" / f"{name}.json").write_text(json.dumps(camera))
        pixels = draw.integers(0, 256, (HEIGHT // 2, WIDTH // 2, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "rgb" / "2x" / f"{name}.png")
    times = dict(zip(names, (10, 12, 12, 14, 16, 20), strict=True))
    metadata = {
        name: {"time_id": time, "warp_id": time, "appearance_id": time, "camera_id": 0}
        for name, time in times.items()
    }
    write(tmp_path, "metadata.json", metadata)
    lists = {
        "count": 6,
        "ids": names,
        "train_ids": [names[at] for at in (5, 0, 1, 3)],
        "val_ids": [names[2], names[4]],
    }
    write(tmp_path, "dataset.json", lists)
    write(tmp_path, "scene.json", {"scale": SCALE, "center": CENTRE, "near": 0.1, "far": 9.0})
    np.save(tmp_path / "points.npy", draw.normal(size=(30, 3)) + CENTRE)
    return tmp_path


def write(folder, name, content):
    (folder / name).write_text(json.dumps(content))


def change(folder, name, **changes):
    content = json.loads((folder / name).read_text())
    write(folder, name, {**content, **changes})


def add_masks(folder, names):
    target = folder / "covisible" / "2x" / "val"
    target.mkdir(parents=True)
    mask = np.zeros((HEIGHT // 2, WIDTH // 2), dtype=np.uint8)
    mask[:, : WIDTH // 4] = 255
    for name in names:
        Image.fromarray(mask).save(target / f"{name}.png")


def quietly(scene, **options):
    with pytest.warns(UserWarning, match="1 of 2 test frames are at times never trained on"):
        return load_hypernerf(scene, **options)


def test_times_are_spread_and_frames_ordered(scene):
    found = quietly(scene)
    assert [view.time for view in found.train] == pytest.approx([0.0, 0.2, 0.4, 1.0])
    assert [view.camera.name for view in found.train] == ["000000", "000001", "000003", "000005"]
    assert [view.time for view in found.test] == pytest.approx([0.2, 0.6])
    assert (found.near, found.far) == (0.1, 9.0)
    assert all(view.mask is None for view in found.test)


def test_warp_ids_serve_where_there_are_no_time_ids(scene):
    metadata = json.loads((scene / "metadata.json").read_text())
    for entry in metadata.values():
        del entry["time_id"]
    write(scene, "metadata.json", metadata)
    assert [view.time for view in quietly(scene).train] == pytest.approx([0.0, 0.2, 0.4, 1.0])


def test_a_camera_projects_as_the_layout_defines_it(scene):
    """The layout's own rule: local = R (p - position); pixel = focal * local_xy / local_z + principal point."""
    given = json.loads((scene / "camera" / "000003.json").read_text())
    found = quietly(scene)
    camera = found.train[2].camera
    raw = torch.from_numpy(np.load(scene / "points.npy"))
    local = (raw - torch.tensor(given["position"])) @ torch.tensor(given["orientation"]).double().T
    pixels = given["focal_length"] * local[:, :2] / local[:, 2:] + torch.tensor(given["principal_point"])
    ours, depth, _ = project_points(found.points, camera)
    front = local[:, 2] > 0.5
    assert int(front.sum()) > 5
    torch.testing.assert_close(ours[front].double(), pixels[front] / 2, rtol=1e-4, atol=1e-3)  # float32 poses
    torch.testing.assert_close(depth[front].double(), SCALE * local[front, 2], rtol=1e-4, atol=1e-4)
    assert (camera.width, camera.height) == (WIDTH // 2, HEIGHT // 2)


def test_pixels_are_those_of_the_file(scene):
    image = np.asarray(Image.open(scene / "rgb" / "2x" / "000001.png"))
    torch.testing.assert_close(
        quietly(scene).train[1].image, torch.from_numpy(image.astype(np.float32) / 255)
    )


def test_frames_may_be_shrunk(scene):
    add_masks(scene, ["000002", "000004"])
    whole, small = quietly(scene, masks=True), quietly(scene, masks=True, longest=6)
    view, first = small.train[0], whole.train[0]
    assert tuple(view.image.shape) == (4, 6, 3)
    expected = first.image.reshape(4, 2, 6, 2, 3).mean((1, 3))
    torch.testing.assert_close(view.image, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(view.camera.intrinsics[:2], first.camera.intrinsics[:2] / 2)
    assert bool(small.test[0].mask[:, :3].all())
    assert not bool(small.test[0].mask[:, 3:].any())


def test_masked_metrics_count_what_the_mask_leaves(scene):
    add_masks(scene, ["000002", "000004"])
    view = quietly(scene, masks=True).test[0]
    image = view.image.clone()
    image[:, WIDTH // 4 :] = 0  # outside the mask
    image[:, : WIDTH // 4] += 0.1
    assert masked_psnr(image, view) == pytest.approx(20, abs=1e-4)  # 0.1 off: -20 log10(0.1)


def partial_means(values, weights, mask):
    """One row or column: the window's weighted sum of what is seen, over the share of its pixels that is."""
    width, found, seen = len(weights), [], []
    for first in range(len(values) - width + 1):
        part = slice(first, first + width)
        count = float(mask[part].sum())
        found.append(float((weights * values[part] * mask[part]).sum()) * width / count if count else 0.0)
        seen.append(float(count > 0))
    return torch.tensor(found, dtype=torch.float64), torch.tensor(seen, dtype=torch.float64)


def partial_blur(image, mask, weights):
    rows = [partial_means(row, weights, seen) for row, seen in zip(image, mask, strict=True)]
    image, mask = torch.stack([one for one, _ in rows]), torch.stack([seen for _, seen in rows])
    columns = [partial_means(one, weights, seen) for one, seen in zip(image.T, mask.T, strict=True)]
    return torch.stack([one for one, _ in columns]).T


def test_masked_ssim_by_hand():
    """Window by window in loops, after the text of DyCheck's metric; a full mask gives ordinary SSIM inside."""
    draw = torch.Generator().manual_seed(0)
    truth, noise = torch.rand(16, 15, 3, generator=draw), 0.2 * torch.randn(16, 15, 3, generator=draw)
    image = (truth + noise).clamp(0, 1)
    mask = torch.zeros(16, 15, dtype=torch.bool)
    mask[:9, 2:] = True
    view = TimedView(None, 0.0, truth, mask)
    weights = torch.exp(-(torch.arange(-5, 6, dtype=torch.float64) ** 2) / (2 * 1.5**2))
    weights /= weights.sum()
    maps = []
    for channel in range(3):
        a, b, seen = image[..., channel].double(), truth[..., channel].double(), mask.double()
        mu_a, mu_b, aa, bb, ab = (partial_blur(one, seen, weights) for one in (a, b, a * a, b * b, a * b))
        var_a, var_b = (aa - mu_a**2).clamp(min=0), (bb - mu_b**2).clamp(min=0)
        cov = ab - mu_a * mu_b
        cov = cov.sign() * torch.minimum((var_a * var_b).sqrt(), cov.abs())
        top = (2 * mu_a * mu_b + 0.01**2) * (2 * cov + 0.03**2)
        maps.append(top / ((mu_a**2 + mu_b**2 + 0.01**2) * (var_a + var_b + 0.03**2)))
    assert masked_ssim(image, view) == pytest.approx(float(torch.stack(maps).mean()), rel=1e-9)
    whole = view._replace(mask=torch.ones_like(mask))
    inner = ssim_map(image.double(), truth.double())[5:-5, 5:-5]
    assert masked_ssim(image, whole) == pytest.approx(float(inner.mean()), rel=1e-5)
    assert masked_ssim(truth, view) == pytest.approx(1)
    with pytest.raises(BadInputError, match="windows of 11 x 11 pixels, the image has 15 x 8"):
        masked_ssim(image[:8], view._replace(image=truth[:8], mask=mask[:8]))


def test_missing_masks_are_named(scene):
    add_masks(scene, ["000002"])
    with pytest.raises(BadInputError, match=r"masked metrics need covisible masks; there is no .*000004.png"):
        load_hypernerf(scene, masks=True)
    view = quietly(scene).test[0]
    with pytest.raises(BadInputError, match="covisible mask of every test view; '000002' has none"):
        masked_psnr(view.image, view)
    with pytest.raises(BadInputError, match="leaves no pixel"):
        masked_psnr(view.image, view._replace(mask=torch.zeros(view.image.shape[:2], dtype=torch.bool)))


def test_bent_lenses_are_told(scene):
    change(scene, "camera/000005.json", radial_distortion=[0.05, 0.0, 0.0])
    with (
        pytest.warns(UserWarning, match="never trained on"),
        pytest.warns(UserWarning, match=r"taken for pinholes; .*0\.05.* of '000005' is left out"),
    ):
        load_hypernerf(scene)


def test_twelve_still_cameras_at_many_times(scene):
    """Nvidia's scenes: frame i is seen by camera i modulo 12, so one pose comes back at another time."""
    first = json.loads((scene / "camera" / "000000.json").read_text())
    write(scene, "camera/000003.json", first)
    found = quietly(scene)
    torch.testing.assert_close(found.train[0].camera.viewmat, found.train[2].camera.viewmat)
    assert found.train[0].time != found.train[2].time


def test_frames_of_different_sizes(scene):
    change(scene, "camera/000003.json", image_size=[20, 16])
    Image.new("RGB", (10, 8)).save(scene / "rgb" / "2x" / "000003.png")
    with pytest.raises(BadInputError, match="all frames must have one size, these have 10 x 8, 12 x 8"):
        load_hypernerf(scene)


def broken(name, content):
    def spoil(folder):
        write(folder, name, content)

    return spoil


def without(name):
    return lambda folder: (folder / name).unlink()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (without("dataset.json"), "is .* a scene in HyperNeRF's layout"),
        (without("points.npy"), "no points to start from"),
        (without("camera/000001.json"), "there is no .*000001.json"),
        (without("rgb/2x/000001.png"), "there is no image .*000001.png"),
        (broken("dataset.json", {"ids": []}), "lacks train_ids, val_ids"),
        (broken("dataset.json", {"train_ids": [], "val_ids": []}), "names no frame to train on"),
        (
            broken("dataset.json", {"train_ids": ["a", "b"], "val_ids": ["b"]}),
            "'b' both to train and to test",
        ),
        (broken("dataset.json", {"train_ids": ["../x"], "val_ids": []}), "no entry for frame '../x'"),
        (broken("metadata.json", {}), "no entry for frame '000005'"),
        (broken("scene.json", {"scale": 1.0}), "lacks center"),
        (broken("camera/000001.json", {"orientation": []}), "lacks position, focal_length"),
        (lambda folder: (folder / "scene.json").write_text("{"), "cannot be read as JSON"),
        (lambda folder: (folder / "rgb/2x/000001.png").write_bytes(b"no"), "cannot be read"),
        (
            lambda folder: np.save(folder / "points.npy", np.zeros((3, 2))),
            r"rows of 3, its shape is \(3, 2\)",
        ),
    ],
)
def test_files_that_are_not_as_the_layout_says(scene, spoil, words):
    spoil(scene)
    with pytest.raises(BadInputError, match=words):
        load_hypernerf(scene)


def test_metadata_without_a_time(scene):
    metadata = json.loads((scene / "metadata.json").read_text())
    metadata["000000"] = {"camera_id": 0}
    write(scene, "metadata.json", metadata)
    with pytest.raises(BadInputError, match="neither time_id nor warp_id, but camera_id"):
        load_hypernerf(scene)


def test_one_moment_is_no_motion(scene):
    write(scene, "metadata.json", {f"{number:06d}": {"time_id": 4} for number in range(6)})
    with pytest.raises(BadInputError, match="two different moments at least, got 1"):
        load_hypernerf(scene)


def test_a_reduction_whose_frames_are_of_another_size(scene):
    (scene / "rgb" / "2x").rename(scene / "rgb" / "4x")
    with pytest.raises(BadInputError, match="12 x 8 pixels, its camera 6 x 4 at 1/4; give the reduction"):
        load_hypernerf(scene, reduction=4)


def test_a_mask_of_another_size(scene):
    add_masks(scene, ["000002", "000004"])
    Image.new("L", (3, 3)).save(scene / "covisible" / "2x" / "val" / "000004.png")
    with pytest.raises(BadInputError, match="is 3 x 3 pixels, its frame 12 x 8"):
        load_hypernerf(scene, masks=True)


def test_a_pose_of_the_wrong_shape(scene):
    change(scene, "camera/000001.json", position=[1.0, 2.0])
    with pytest.raises(BadInputError, match="position of 3 numbers"):
        read_camera(scene / "camera" / "000001.json", 1.0, torch.zeros(3))
