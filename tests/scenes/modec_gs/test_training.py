import math
from dataclasses import replace

import pytest
import torch

from papertrial.errors import BadInputError
from papertrial.scenes.fitting import Fitted, diverged_at, fit
from papertrial.scenes.hexplane import Penalty
from papertrial.scenes.image_losses import photometric_loss, ssim
from papertrial.scenes.modec_gs import (
    AdjustmentSettings,
    FieldSettings,
    ModecTraining,
    Player,
    SceneSettings,
    TrainingSettings,
    save_scene,
)
from papertrial.scenes.modec_gs.settings import VARIANTS
from papertrial.scenes.scaffold import GrowthSettings

# cells of one and two voxels: those of the paper's 16 are filled at once in so small a scene
GROWS = GrowthSettings(
    2, 4, 100, 10, threshold=2e-5, keep="all", levels=2, coarsest=2, ratio=2, min_opacity=0.01
)


@pytest.mark.parametrize("variant", VARIANTS)
def test_training_lowers_the_error_on_every_frame(variant, make_training, views):
    training = make_training(iterations=50, batch=1, scene_changes=VARIANTS[variant].changes)
    assert isinstance(training, Fitted)

    def error():
        player = Player(training.scene)
        return [
            float(photometric_loss(player.render(one.camera, one.time).colour, one.image)) for one in views
        ]

    before = error()
    history = fit(training, training.settings.steps)
    assert diverged_at(history) is None
    assert sum(error()) < 0.7 * sum(before)
    assert all(after < once for after, once in zip(error(), before, strict=True))


def test_the_first_stage_leaves_all_motion_alone(make_training):
    training = make_training(coarse=6, fine=4)
    scene = training.scene
    moving = [*scene.global_deformation.parameters(), *scene.local_deformation.parameters(), scene.gates]
    before = [one.detach().clone() for one in moving]
    for number in range(6):
        training.step(number)
    assert all(torch.equal(one, old) for one, old in zip(moving, before, strict=True))
    for number in range(6, 10):
        training.step(number)
    moving = [*scene.global_deformation.parameters(), *scene.local_deformation.parameters(), scene.gates]
    assert sum(not torch.equal(one, old) for one, old in zip(moving, before, strict=True)) > len(moving) / 2


def test_rates_are_the_papers_and_start_anew_in_the_second_stage(make_training):
    training = make_training(coarse=3, fine=5, schedule=10)
    extent = training._rates["fields"](0) / 1.6e-3

    def rates():
        return {group["name"]: group["lr"] for group in training.optimizer.param_groups}

    training.step(0)
    first = rates()
    assert first["gates"] == pytest.approx(2e-3)
    assert first["networks"] == pytest.approx(1.6e-4 * extent)
    assert first["features"] == pytest.approx(7.5e-3)
    for number in (1, 2):
        training.step(number)
    falling = rates()
    assert falling["fields"] == pytest.approx(first["fields"] * 0.1 ** (2 / 10))  # a tenth over the schedule
    training.step(3)
    assert rates() == pytest.approx(first)


def test_raised_rates_fall_to_the_papers_last(make_training):
    training = make_training(coarse=0, fine=40, schedule=60, field_rate=16.0, motion_schedule=40)
    plain = make_training(coarse=0, fine=40, schedule=60)
    assert training._rates["fields"](0) == pytest.approx(16 * plain._rates["fields"](0))
    assert training._rates["fields"](40) == pytest.approx(plain._rates["fields"](60))
    assert training._rates["networks"](0) == pytest.approx(plain._rates["networks"](0))
    assert training._rates["offsets"](40) == pytest.approx(plain._rates["offsets"](40))


def test_growth_happens_in_both_stages_and_new_anchors_have_open_gates(make_training):
    training = make_training(coarse=25, fine=25, growth=GROWS)
    scene = training.scene
    counts = [len(scene.anchors)]
    with torch.no_grad():
        scene.gates.fill_(0.5)
    for number in range(50):
        before = len(scene.anchors)
        training.step(number)
        if len(scene.anchors) > before:
            added = scene.gates.detach()[scene.gates.detach()[:, 0].sub(0.5).abs() > 0.2]
            assert len(added) >= 1  # zeros, or a step of at most 2e-3 away from it
            assert float(added.abs().max()) <= 2.1e-3
        counts.append(len(scene.anchors))
        with torch.no_grad():
            scene.gates.fill_(0.5)
    assert counts[25] > counts[0]
    assert counts[50] > counts[26]
    assert len(scene.gates) == counts[-1]


def test_schedules_end_at_the_papers_last_rates(make_training):
    training = make_training(coarse=0, fine=20, schedule=20)
    extent = training._rates["fields"](0) / 1.6e-3
    last = {name: training._rates[name](20) for name in ("gates", "fields", "networks")}
    assert last == pytest.approx({"gates": 2e-5, "fields": 1.6e-4 * extent, "networks": 1.6e-5 * extent})


@torch.no_grad()
def loss_by_hand(scene, views, still):
    total = 0.0
    for view in views:
        decoded = scene.frames([view.camera], [view.time], still=still)[0].decoded
        out = scene.rasterize(decoded, view.camera)
        image = out.features + 1 - out.alpha[..., None]
        total += 0.8 * float((image - view.image).abs().mean()) + 0.2 * float(1 - ssim(image, view.image))
        total += 0.01 * float(decoded.scales.prod(1).mean())
    penalties = 0.0
    if not still:
        penalties += float(scene.global_deformation.field.penalty(Penalty(1e-4, 5e-4, 5e-5)))
        penalties += float(scene.local_deformation.field.penalty(Penalty(2e-4, 1e-3, 1e-4)))
        assert penalties > 1e-4  # enough to be missed
    return total / len(views) + penalties


@pytest.mark.parametrize("still", [True, False])
def test_the_loss_is_the_sum_of_its_terms(still, make_training, stirred, views):
    """0.8 L1 + 0.2 (1 - SSIM), 0.01 of the mean volume, and the fields' regularisers once things move."""
    training = make_training(coarse=1, fine=1)
    stirred(training.scene, size=0.3)
    training._batch = lambda number: views[2:4]
    scene = stirred(make_training(coarse=1, fine=1).scene, size=0.3)
    expected = loss_by_hand(scene, views[2:4], still)
    assert training.step(0 if still else 1)["loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("variant", ["two-anchor-stages", "modec", "4dgs"])
@pytest.mark.parametrize("rate", [1e15, 1e30])
def test_rates_without_bounds_end_as_divergence(variant, rate, make_training):
    """Anchors are flung out of every view, or to no place at all: never an error, never a frame of nothing."""
    training = make_training(
        coarse=0, fine=12, field_rate=rate, network_rate=rate, scene_changes=VARIANTS[variant].changes
    )
    assert diverged_at(fit(training, 12)) is not None


def test_anchors_that_grow_beyond_the_box_are_told_once(make_training):
    training = make_training(coarse=0, fine=30, growth=replace(GROWS, threshold=0.0))
    with torch.no_grad():
        training.scene.anchors.offsets.fill_(2.0)
    with pytest.warns(UserWarning, match=r"% of \d+ anchors have grown beyond the box of the fields") as told:
        fit(training, 25)
    assert sum("beyond the box" in str(one.message) for one in told) == 1


@pytest.mark.parametrize("stop", [3, 14, 29])
def test_a_resumed_run_ends_at_the_same_bits(stop, make_training, tmp_path):
    """Stopped in the first stage, in the second, and after anchors grew and borders moved."""
    settings = {
        "coarse": 8,
        "fine": 26,
        "growth": GrowthSettings(first_statistics=1, start=3, stop=100, interval=10),
        "adjustment": AdjustmentSettings(start=4, interval=5, step=0.1, sigmas=0.5),
    }
    whole = make_training(**settings)
    history = fit(whole, 34)
    cut = make_training(**settings)

    def stopping(done, _):
        if done == stop:
            raise KeyboardInterrupt

    path = tmp_path / "run.safetensors"
    with pytest.raises(KeyboardInterrupt):
        fit(cut, 34, on_step=stopping, checkpoint=path, checkpoint_every=1)
    resumed = make_training(seed=0, **settings)
    again = fit(resumed, 34, checkpoint=path, checkpoint_every=34)
    assert again == history
    for name, tensor in whole.state().items():
        assert torch.equal(tensor, resumed.state()[name]), name
    assert save_scene(tmp_path / "a.safetensors", whole.scene) == save_scene(
        tmp_path / "b.safetensors", resumed.scene
    )
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_segments_gather_the_screen_gradients_of_their_frames(make_training):
    """One frame a step: what its segment gains is the sum over its Gaussians, recomputed here from a fresh render."""
    training = make_training(coarse=0, fine=9, batch=1, adjustment=AdjustmentSettings(start=100))
    scene = training.scene
    training.step(0)
    visits = scene.intervals.visits.clone()
    assert float(visits.sum()) == 1
    segment = int(visits.argmax())
    view = training._batch(0)[0]
    assert scene.intervals.segment(view.time) == segment
    fresh = make_training(coarse=0, fine=9, batch=1).scene
    frame = fresh.frames([view.camera], [view.time])[0]
    out = fresh.rasterize(frame.decoded, view.camera, track=True)
    colour = out.features + (1 - out.alpha)[..., None]
    photometric_loss(colour, view.image).backward()
    expected = float(out.screen_gradients().norm(dim=-1).sum())
    assert float(scene.intervals.gradients[segment]) == pytest.approx(expected, rel=1e-4)


def test_gradients_of_a_batch_count_as_those_of_single_frames(make_training, views):
    """Thresholds are for the loss of one image: a batch of the same frame twice gives each frame's own gradient."""
    both = []
    for copies in (1, 2):
        training = make_training(coarse=0, fine=9, batch=copies, adjustment=AdjustmentSettings(start=100))
        training._batch = lambda number, copies=copies: [views[5]] * copies
        training.step(0)
        both.append(training.scene.intervals.mean_gradients().sum())
    assert float(both[1]) == pytest.approx(float(both[0]), rel=1e-4)


def test_borders_move_in_training_where_segments_are_hot(make_training):
    training = make_training(
        coarse=0, fine=12, adjustment=AdjustmentSettings(start=4, interval=4, step=0.1, sigmas=0.2)
    )
    fit(training, 12)
    lengths = training.scene.intervals.lengths
    assert float((lengths - 1 / 6).abs().max()) >= 0.1 / 6 - 1e-9
    assert float(lengths.sum()) == pytest.approx(1)
    even = make_training(coarse=0, fine=12, adjustment=None)
    fit(even, 12)
    assert even.scene.intervals.lengths.tolist() == pytest.approx([1 / 6] * 6)
    assert float(even.scene.intervals.visits.sum()) == 0


def test_a_step_that_is_not_finite_changes_nothing(make_training):
    training = make_training(coarse=0, fine=9)
    with torch.no_grad():
        training.scene.decoder.colour[0].bias.fill_(math.nan)
    before = {name: one.clone() for name, one in training.scene.state_dict().items()}
    history = fit(training, 9)
    assert diverged_at(history) == 1
    for name, one in training.scene.state_dict().items():
        assert torch.equal(one.nan_to_num(), before[name].nan_to_num())


@pytest.mark.parametrize("variant", ["two-anchor-stages", "gad-lgd"])
def test_anchors_at_no_place_are_a_divergence(variant, make_training):
    """No camera sees them, so that the frame is empty and its loss looks fine."""
    training = make_training(coarse=0, fine=9, scene_changes=VARIANTS[variant].changes)
    head = training.scene.global_deformation.network.heads["positions"]
    with torch.no_grad():
        head[-1].bias.fill_(math.nan)
    assert diverged_at(fit(training, 9)) == 1


def test_the_papers_numbers():
    settings = TrainingSettings()
    assert (settings.coarse, settings.fine, settings.batch, settings.background) == (3_000, 20_000, 4, 1.0)
    assert settings.growth.min_opacity == 0.01
    assert settings.growth.stop == 15_000
    assert settings.adjustment == AdjustmentSettings(5_000, 1_000, 0.01, 1.5)
    scene = SceneSettings()
    assert scene.local_field == FieldSettings(64, 100, 16, (1, 2), Penalty(2e-4, 1e-3, 1e-4))
    assert scene.global_field == FieldSettings(32, 10, 16, (1, 2), Penalty(1e-4, 5e-4, 5e-5))
    assert (scene.hidden, scene.gates, scene.time_range) == (128, "two", "full")


def test_scaled_settings_keep_proportions():
    short = TrainingSettings().scaled(460)  # a fiftieth
    assert (short.coarse, short.fine, short.schedule) == (60, 400, 600)
    assert short.growth.stop == 300
    assert short.adjustment == AdjustmentSettings(
        100, 50, 0.1
    )  # from a quarter on, every 50 steps, by a tenth
    longer = (
        TrainingSettings().scaled(2_300).adjustment
    )  # as many adjustments as the paper's, as far as the paper's
    assert longer == AdjustmentSettings(500, 100, 0.01)
    assert TrainingSettings().scaled(23_000) == TrainingSettings()
    assert TrainingSettings(adjustment=None).scaled(100).adjustment is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"coarse": 0, "fine": 0}, "needs steps"),
        ({"batch": 0}, "batch and a schedule above 0"),
        ({"background": 1.5}, "within 0 and 1"),
        ({"field_rate": 0.0}, "rates are above 0"),
    ],
)
def test_settings_that_cannot_train(changes, words):
    with pytest.raises(BadInputError, match=words):
        TrainingSettings(**changes)


def test_too_few_steps_for_two_stages():
    with pytest.raises(BadInputError, match="2 steps or more, got 1"):
        TrainingSettings().scaled(1)


def test_more_segments_than_frames_can_fill(make_scene, views):
    with pytest.raises(
        BadInputError, match="8 segments need 16 moments or more, there are 12; take at most 6"
    ):
        ModecTraining(make_scene(segments=8), views, TrainingSettings(), 1.0)
    ModecTraining(make_scene(segments=8, moves_anchors=False), views, TrainingSettings(), 1.0)  # it has none
