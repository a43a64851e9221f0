"""The fitting loop: resumption to the bit while rows come and go, divergence, and checkpoints of other runs."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from papertrial.errors import BadInputError
from papertrial.scenes.fitting import Fitted, Rendering, diverged_at, fit, step_generator
from papertrial.scenes.snapshots import (
    Snapshot,
    read_snapshot,
    restore_training,
    training_state,
    write_snapshot,
)
from papertrial.threads import kernel_threads


class Points(nn.Module):
    """Points that are drawn to noisy targets; every third step adds one."""

    def __init__(self, diverge_at=None):
        super().__init__()
        self.places = nn.Parameter(torch.zeros(2, 3))
        self.shift = nn.Parameter(torch.zeros(3))
        self.register_buffer("seen", torch.zeros(2, dtype=torch.int64))
        groups = [{"params": [self.places], "name": "places"}, {"params": [self.shift], "name": "shift"}]
        self.optimizer = torch.optim.Adam(groups, lr=0.05)
        self.draw = torch.Generator().manual_seed(3)
        self.diverge_at = diverge_at

    def step(self, number):
        target = torch.randn(3, generator=self.draw) + torch.randn(3, generator=step_generator(0, number))
        loss = (self.places + self.shift - target).square().mean()
        if number == self.diverge_at:
            return {"loss": math.nan}
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        if number % 3 == 2:
            self.grow()
        return {"loss": loss.item(), **({"points": len(self.places)} if number % 3 == 2 else {})}

    def grow(self):
        old, moments = self.places, self.optimizer.state.pop(self.places)
        self.places = nn.Parameter(torch.cat([old.detach(), old.detach()[:1] + 0.1]))
        self.seen = torch.cat([self.seen + 1, self.seen.new_zeros(1)])
        self.optimizer.param_groups[0]["params"] = [self.places]
        extended = {name: torch.cat([moments[name], torch.zeros(1, 3)]) for name in ("exp_avg", "exp_avg_sq")}
        self.optimizer.state[self.places] = {"step": moments["step"], **extended}

    def state(self):
        return {**training_state(self, self.optimizer), "draw": self.draw.get_state()}

    def restore(self, state):
        restore_training(self, self.optimizer, state)
        self.draw.set_state(state["draw"])

    def render(self, camera, time=0.0):
        blank = torch.zeros(camera.height, camera.width)
        three = blank[..., None].expand(-1, -1, 3)
        return Rendering(three, blank, blank, three)


class StopError(Exception):
    """What a user's Ctrl-C is in these tests."""


def stop_after(step):
    def on_step(number, values):
        if number == step:
            raise StopError

    return on_step


def test_a_scene_is_fitted():
    assert isinstance(Points(), Fitted)
    told = []
    history = fit(Points(), 30, on_step=lambda number, values: told.append((number, values)))
    assert told == list(enumerate(history, start=1))
    assert len(history) == 30
    assert history[2]["points"] == 3
    assert "points" not in history[0]
    assert diverged_at(history) is None


# 4 and 5 lie between checkpoints and after rows were added; 8 is the last step before one
@pytest.mark.parametrize("interrupted", [4, 5, 8, 11])
def test_interrupted_and_resumed_equals_uninterrupted(interrupted, tmp_path):
    whole = Points()
    expected = fit(whole, 11)
    file = tmp_path / "run" / "checkpoint.safetensors"
    with pytest.raises(StopError):
        fit(Points(), 11, checkpoint=file, checkpoint_every=2, on_step=stop_after(interrupted))
    again = Points()
    told = []
    history = fit(again, 11, checkpoint=file, on_step=lambda number, values: told.append(number))
    assert history == expected
    assert told == list(range(interrupted // 2 * 2 + 1 if interrupted < 11 else 12, 12))
    for name, tensor in whole.state().items():  # bit for bit: nothing is rounded on the way
        assert torch.equal(tensor, again.state()[name]), name
    assert again.places.shape == (5, 3)


def test_a_finished_run_is_not_run_again(tmp_path):
    file = tmp_path / "checkpoint.safetensors"
    expected = fit(Points(), 7, checkpoint=file)
    assert fit(Points(), 7, checkpoint=file, on_step=stop_after(1)) == expected
    more = fit(Points(), 9, checkpoint=file)  # steps may be added to a run
    assert more == fit(Points(), 9)
    with pytest.raises(BadInputError, match="has 9 steps behind it, 7 are wanted"):
        fit(Points(), 7, checkpoint=file)


def test_divergence_stops_and_loses_nothing(tmp_path):
    file = tmp_path / "checkpoint.safetensors"
    scene = Points(diverge_at=6)
    history = fit(scene, 20, checkpoint=file, checkpoint_every=7)
    assert diverged_at(history) == len(history) == 7
    assert math.isnan(history[-1]["loss"])
    assert not file.exists()  # step 7 was due, and its state is no good
    history = fit(Points(diverge_at=6), 20, checkpoint=file, checkpoint_every=5)
    kept = read_snapshot(file)
    assert kept.facts["steps"] == 5
    sound = Points()
    fit(sound, 5)
    assert torch.equal(kept.tensors["module.places"], sound.places)
    # what made the step diverge is mended: the run goes on from before it
    assert fit(Points(), 20, checkpoint=file) == fit(Points(), 20)


def test_checkpoints_of_other_runs_are_refused(tmp_path):
    file = tmp_path / "checkpoint.safetensors"
    fit(Points(), 4, checkpoint=file, identity={"seed": 1, "kind": "surfel"})
    fit(Points(), 4, checkpoint=file, identity={"seed": 1, "kind": "surfel"})
    with pytest.raises(BadInputError, match="of another run: seed was 1, now 2"):
        fit(Points(), 4, checkpoint=file, identity={"seed": 2, "kind": "surfel"})
    with pytest.raises(BadInputError, match="of another run: kind was 'surfel', now None"):
        fit(Points(), 4, checkpoint=file, identity={"seed": 1})
    file.write_bytes(file.read_bytes()[:-7])
    with pytest.raises(BadInputError, match="cannot be read as safetensors"):
        fit(Points(), 4, checkpoint=file)
    write_snapshot(file, Snapshot({"a": torch.zeros(1)}, {}))
    with pytest.raises(BadInputError, match="holds no fitting's state"):
        fit(Points(), 4, checkpoint=file)


def test_settings_that_cannot_work_are_refused(tmp_path):
    with pytest.raises(BadInputError, match="steps must be at least 1, got 0"):
        fit(Points(), 0)
    with pytest.raises(BadInputError, match="checkpoint_every must be at least 1, got -1"):
        fit(Points(), 5, checkpoint=tmp_path / "a", checkpoint_every=-1)
    silent = Points()
    silent.step = lambda number: {"points": 2.0}
    with pytest.raises(BadInputError, match="must tell its 'loss', got points"):
        fit(silent, 1)


def test_states_of_other_scenes_are_refused():
    scene = Points()
    state = training_state(scene, scene.optimizer)
    with pytest.raises(BadInputError, match=r"shift is missing, the scene has \[3\]"):
        restore_training(
            scene, scene.optimizer, {name: one for name, one in state.items() if "shift" not in name}
        )
    with pytest.raises(BadInputError, match=r"places is \[2, 4\], the scene has \[2, 3\]"):
        restore_training(scene, scene.optimizer, {**state, "module.places": torch.zeros(2, 4)})


def test_snapshots_survive_writing(tmp_path):
    shared = torch.arange(6.0).reshape(2, 3)
    tensors = {"a": shared, "b": shared.T, "none": torch.zeros(0, 3), "one": torch.tensor(7)}
    write_snapshot(tmp_path / "a.safetensors", Snapshot(tensors, {"steps": 3}))
    found = read_snapshot(tmp_path / "a.safetensors")
    assert found.facts == {"steps": 3}
    assert {name: one.tolist() for name, one in found.tensors.items()} == {
        name: one.tolist() for name, one in tensors.items()
    }
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]  # nothing half-written is left
    with pytest.raises(BadInputError, match="cannot be read as safetensors"):
        read_snapshot(tmp_path / "b.safetensors")


@pytest.mark.parametrize(("pixels", "threads"), [(None, 2), (64 * 64, 1), (1024 * 768, 2)])
def test_small_photographs_leave_the_second_thread_to_the_kernels(pixels, threads, monkeypatch):
    found = []
    fitted = Points()
    monkeypatch.setattr(
        fitted,
        "step",
        lambda number: found.append((torch.get_num_threads(), kernel_threads())) or {"loss": 1.0},
    )
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        fit(fitted, 1, pixels=pixels, on_step=lambda *_: found.append(torch.get_num_threads()))
    finally:
        torch.set_num_threads(before)
    assert found == [(threads, 2), 2]


def test_draws_of_a_step_depend_on_seed_and_number_alone():
    draw = {
        (seed, number): float(torch.rand((), generator=step_generator(seed, number)))
        for seed in range(20)
        for number in range(50)
    }
    again = float(torch.rand((), generator=step_generator(7, 31)))
    assert again == draw[7, 31]
    assert len(set(draw.values())) == len(draw)  # no two alike
