"""Fitting plain splats: gradients against the dense rasteriser, schedules, resumption to the bit, what is refused."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from papertrial.errors import BadInputError
from papertrial.scenes.cameras import depth_to_normal
from papertrial.scenes.colmap import Posed
from papertrial.scenes.fitting import Fitted, diverged_at, fit
from papertrial.scenes.image_losses import psnr
from papertrial.scenes.plain_splats import DensifySettings, PlainFit, PlainSettings, SplatScene
from papertrial.scenes.plain_splats.scene import ROWS
from papertrial.scenes.splatting import Rules, rasterize_dense
from papertrial.scenes.splatting.geometry import quaternion_to_matrix

QUICK = DensifySettings(start=2, stop=30, interval=5, gradient=1e-4, reset_interval=17, recovery=12)


def settings_for(kind, **changes):
    base = PlainSettings() if kind == "surfel" else PlainSettings.gaussians()
    short = {"degree_interval": 6, "rate_steps": 40, "normal_start": 8, "densify": QUICK}
    return replace(base, **{**short, **changes})


@pytest.fixture
def prepared(cloud, views):
    """Return a function that makes the same fit again and again."""

    def make(kind="surfel", **changes):
        scene = SplatScene.from_points(*cloud(), kind)
        return PlainFit(scene, views(kind), settings_for(kind, **changes))

    return make


@pytest.mark.parametrize("kind", ["surfel", "gaussian"])
def test_a_scene_comes_to_look_like_its_photographs(kind, prepared):
    fitted = prepared(kind)
    assert isinstance(fitted, Fitted)

    def likeness():
        return sum(psnr(fitted.render(view.camera).colour, view.image) for view in fitted.views)

    before = likeness()
    history = fit(fitted, 60)
    assert diverged_at(history) is None
    assert likeness() > before + 4 * 1.5  # dB, of four views
    assert len({figures["primitives"] for figures in history}) > 2  # rows came and went on the way


@pytest.mark.parametrize("kind", ["surfel", "gaussian"])
@pytest.mark.parametrize("interrupted", [7, 16, 33])
def test_interrupted_and_resumed_equals_uninterrupted(kind, interrupted, prepared, tmp_path):
    whole = prepared(kind)
    expected = fit(whole, 40)
    assert len({figures["primitives"] for figures in expected[:interrupted]}) > 1  # rows were added before
    file = tmp_path / "checkpoint.safetensors"

    def stop(done, figures):
        if done == interrupted:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        fit(prepared(kind), 40, checkpoint=file, checkpoint_every=4, on_step=stop)
    again = prepared(kind)
    assert fit(again, 40, checkpoint=file) == expected
    state = again.state()
    for name, tensor in whole.state().items():  # bit for bit
        assert torch.equal(tensor, state[name]), name


@pytest.mark.parametrize("kind", ["surfel", "gaussian"])
def test_gradients_are_the_dense_rasterisers(kind, cloud, views):
    posed = views(kind)
    settings = settings_for(kind, degree_interval=1)
    found = {}
    for backend in ("numba", "dense"):
        scene = SplatScene.from_points(*cloud(), kind)
        with torch.no_grad():
            scene.bands.normal_(0, 0.1, generator=torch.Generator().manual_seed(4))
            scene.opacity_logits.fill_(0.5)
            scene.log_scales[:, 0] += 0.7  # round Gaussians look the same however they are turned
        if backend == "dense":  # the oracle counts in float64
            scene = scene.double()
        fitted = PlainFit(scene, posed, replace(settings, backend=backend))
        fitted.optimizer.zero_grad()
        camera, image = fitted.views[1]
        shown = fitted.look(camera, number=20)
        losses = fitted._losses(20, 1, shown, image)
        torch.stack(list(losses.values())).sum().backward()
        found[backend] = (losses, {name: getattr(scene, name).grad.clone() for name in ROWS})
    assert set(found["numba"][0]) == (
        {"photometric", "normal_consistency"} if kind == "surfel" else {"photometric"}
    )
    for name, loss in found["numba"][0].items():
        torch.testing.assert_close(loss.double(), found["dense"][0][name], atol=1e-5, rtol=1e-4)
    for name in ROWS:
        one, two = found["numba"][1][name].double(), found["dense"][1][name]
        # float32 against float64: the agreement of the kernels themselves is 1e-5 of the norm
        assert (one - two).norm() < 1e-3 * two.norm(), name
        assert two.norm() > 0, name


def test_what_is_seen_is_the_dense_rasterisers_blend(cloud, cameras):
    camera = cameras(1)[0].to(torch.float64)
    scene = SplatScene.from_points(*cloud()).double()
    blank = Posed(camera, torch.zeros(16, 16, 3))
    fitted = PlainFit(
        scene,
        [blank],
        replace(settings_for("surfel"), background=(0.2, 0.4, 0.6), depth_ratio=0.25),
        extent=1.0,
    )
    seen = fitted.render(camera)
    prims = scene.primitives()
    normals = quaternion_to_matrix(prims.quats)[:, :, 2]
    facing = torch.where(
        ((prims.means - camera.centre) * normals).sum(-1, keepdim=True) > 0, -normals, normals
    )
    out = rasterize_dense(
        prims,
        camera.viewmat,
        camera.intrinsics,
        16,
        16,
        torch.cat([scene.colours(camera), facing], -1),
        Rules(),
    )
    behind = torch.tensor([0.2, 0.4, 0.6], dtype=torch.float64)
    tight = {"atol": 1e-9, "rtol": 1e-9}  # both count in float64
    torch.testing.assert_close(
        seen.colour, (out.features[..., :3] + (1 - out.alpha[..., None]) * behind).detach(), **tight
    )
    torch.testing.assert_close(seen.normals, out.features[..., 3:].detach(), **tight)
    torch.testing.assert_close(seen.alpha, out.alpha.detach(), **tight)
    covered = out.alpha > 0
    expected = torch.where(covered, out.depth / out.alpha.clamp(min=1e-300), 0.0)
    torch.testing.assert_close(seen.depth, (0.75 * expected + 0.25 * out.median_depth).detach(), **tight)
    assert covered.any()
    assert not covered.all()
    shown = fitted.look(camera, 0)
    torch.testing.assert_close(
        shown.surface_normals, depth_to_normal(shown.depth, camera) * out.alpha.detach()[..., None], **tight
    )


def test_steps_scale_with_the_run():
    full = PlainSettings().for_iterations(30_000)
    assert full == PlainSettings()
    half = PlainSettings().for_iterations(15_000)
    assert (half.degree_interval, half.normal_start, half.rate_steps) == (500, 3_500, 15_000)
    rules = half.densify
    assert (rules.start, rules.stop, rules.interval, rules.reset_interval) == (250, 7_500, 50, 1_500)
    short = PlainSettings().for_iterations(900).densify
    # updates 10 steps apart at least, and no resets that the scene could not recover from
    assert (short.start, short.stop, short.interval, short.reset_interval) == (15, 450, 10, None)
    assert short.gradient == PlainSettings().densify.gradient


def test_updates_and_resets_come_when_they_are_due():
    rules = PlainSettings().densify
    updates = [done for done in range(30_001) if rules.updates_at(done)]
    assert (updates[0], updates[-1], len(updates)) == (600, 14_900, 144)
    assert [done for done in range(30_001) if rules.resets_at(done)] == [3_000, 6_000, 9_000, 12_000]
    assert not any(rules.recovers_at(done) for done in updates[:24])
    assert rules.recovers_at(3_049)
    assert not rules.recovers_at(3_100)  # as released: nothing is spared at full length
    assert not rules.prunes_large_at(3_000)
    assert rules.prunes_large_at(3_100)


def test_the_degree_rises_to_three():
    settings = PlainSettings()
    assert [settings.degree_at(number) for number in (0, 998, 999, 1_999, 2_999, 29_999)] == [
        0,
        0,
        1,
        2,
        3,
        3,
    ]


def test_bands_rest_until_their_degree(prepared):
    fitted = prepared()
    fit(fitted, 5)
    assert not fitted.scene.bands.any()
    fit_on = [fitted.step(number) for number in range(5, 8)]
    assert math.isfinite(fit_on[-1]["loss"])
    assert fitted.scene.bands[:, :3].any()
    assert not fitted.scene.bands[:, 3:].any()


def test_every_view_comes_once_in_every_round(prepared):
    fitted = prepared()
    rounds = [[fitted.view_at(4 * around + place) for place in range(4)] for around in range(30)]
    assert all(sorted(one) == [0, 1, 2, 3] for one in rounds)
    assert len({tuple(one) for one in rounds}) > 10  # of 24 orders


def test_positions_slow_down_exponentially(prepared):
    fitted = prepared()
    rates = []
    for number in range(41):
        fitted.step(number)
        rates.append(fitted.optimizer.param_groups[0]["lr"] / fitted.extent)
    assert rates[0] == pytest.approx(1.6e-4)
    assert rates[20] == pytest.approx(1.6e-5)  # half way in the logarithm
    assert rates[40] == pytest.approx(1.6e-6)


def test_further_terms_join_the_loss(cloud, views):
    told = []

    def opaque(number, view, shown):
        told.append((number, view))
        return {"opaque": 0.5 * (1 - shown.alpha).mean()}

    def fitted_with(*terms):
        settings = settings_for("surfel", distortion=100.0, distortion_start=3)
        return PlainFit(SplatScene.from_points(*cloud()), views(), settings, terms=terms)

    fitted, without = fitted_with(opaque), fitted_with()
    history = [fitted.step(number) for number in range(14)]
    assert told == [(number, fitted.view_at(number)) for number in range(14)]
    assert "distortion" not in history[2]
    assert history[3]["distortion"] > 0
    terms = {"photometric", "normal_consistency", "distortion", "opaque"}
    assert set(history[9]) == {"loss", "primitives", *terms}
    assert history[9]["loss"] == pytest.approx(sum(history[9][name] for name in terms), rel=1e-5)
    for number in range(14):
        without.step(number)
    camera = fitted.views[0].camera
    assert fitted.render(camera).alpha.mean() > without.render(camera).alpha.mean()


def test_a_broken_loss_updates_nothing(cloud, views):
    def broken(number, view, shown):
        return {"broken": shown.alpha.mean() * (math.inf if number == 3 else 1.0)}

    fitted = PlainFit(SplatScene.from_points(*cloud()), views(), settings_for("surfel"), terms=[broken])
    for number in range(3):
        fitted.step(number)
    before = {name: tensor.clone() for name, tensor in fitted.state().items()}
    figures = fitted.step(3)
    assert math.isnan(figures["loss"])
    assert figures["broken"] == math.inf
    for name, tensor in fitted.state().items():
        assert torch.equal(tensor, before[name]), name


def test_a_scene_without_primitives_has_diverged(cloud, views):
    fitted = PlainFit(
        SplatScene.from_points(*cloud()),
        views(),
        settings_for("surfel", densify=replace(QUICK, min_opacity=0.9)),
    )
    history = fit(fitted, 40)
    assert diverged_at(history) == 6  # the first update, after step 5, prunes all
    assert history[-1]["primitives"] == 0


def test_fits_that_cannot_be_are_refused(cloud, views, cameras):
    scene, posed = SplatScene.from_points(*cloud()), views()
    with pytest.raises(BadInputError, match="at least one photograph"):
        PlainFit(scene, [], PlainSettings())
    with pytest.raises(BadInputError, match="scene is of kind surfel, the settings are for gaussian"):
        PlainFit(scene, posed, PlainSettings.gaussians())
    with pytest.raises(BadInputError, match=r"image 'view_1' must lie within 0 and 1"):
        PlainFit(scene, [posed[0], Posed(posed[1].camera, posed[1].image * 255)], PlainSettings())
    with pytest.raises(BadInputError, match=r"extent must be above 0, got 0\.0"):
        PlainFit(scene, posed[:1], PlainSettings())
    turned = [
        Posed(replace(view.camera, viewmat=torch.linalg.inv(view.camera.viewmat)), view.image)
        for view in posed
    ]
    with pytest.raises(BadInputError, match="give world-to-camera"):
        PlainFit(scene, turned, PlainSettings())
    with pytest.raises(BadInputError, match="harmonics to degree 1, the settings want 3"):
        PlainFit(SplatScene.from_points(*cloud(), degree=1), posed, PlainSettings())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PlainSettings(kind="gaussian"), "Gaussians have no normals"),
        (lambda: PlainSettings(degree=4), "degree must be 0 to 3"),
        (lambda: PlainSettings(distortion=-1.0), "weights must be 0 or more"),
        (
            lambda: PlainSettings(rules=Rules("gaussian")),
            "the rules are for gaussian, the scene is of surfel",
        ),
        (lambda: PlainSettings().for_iterations(0), "1 iteration or more, got 0"),
        (lambda: DensifySettings(interval=0), "intervals 1 or more"),
        (lambda: DensifySettings(reset_opacity=1.0), "reset_opacity between 0 and 1"),
        (lambda: DensifySettings(shrink=0.0), "shrink must be above 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(make, message):
    with pytest.raises(BadInputError, match=message):
        make()


def test_terms_count_from_their_steps_on(prepared):
    """Steps are counted from 0: a term that starts at 2 is in the third."""
    fitted = prepared("surfel", normal_start=2, distortion=1.0, distortion_start=3)
    found = [set(fitted.step(number)) & {"normal_consistency", "distortion"} for number in range(4)]
    assert found == [set(), set(), {"normal_consistency"}, {"normal_consistency", "distortion"}]


def test_a_shape_is_what_is_looked_at(prepared):
    """With a ratio between both depths; the colours' harmonics have no part in it."""
    fitted = prepared("surfel", depth_ratio=0.3)
    camera = fitted.views[0].camera
    shape, seen = fitted.shape(camera, 0), fitted.look(camera, 0)
    torch.testing.assert_close(shape.depth, seen.depth)
    torch.testing.assert_close(shape.normals, seen.normals)
    assert not shape.depth.requires_grad
