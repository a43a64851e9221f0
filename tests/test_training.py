from __future__ import annotations

import copy
import itertools
import math
import os

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import (
    get_constant_schedule_with_warmup,
    get_cosine_with_min_lr_schedule_with_warmup,
    get_linear_schedule_with_warmup,
)

from papertrial.data.tokens import batches
from papertrial.errors import BadInputError
from papertrial.models import devices, load_causal_lm, load_token_classifier
from papertrial.training import evaluate_loss, learning_rate_factor, train

BLOCKS = torch.randint(0, 32, (40, 12), generator=torch.Generator().manual_seed(0))


def tiny(name="tiny-llama", **overrides):
    sizes = {"n_embd": 32} if name == "tiny-gpt2" else {"hidden_size": 32, "intermediate_size": 64}
    return load_causal_lm(name, vocab_size=32, **sizes, **overrides)


def adamw(model, **settings):
    return torch.optim.AdamW(model.parameters(), **{"lr": 3e-3, **settings})


def same(left, right) -> bool:
    return all(torch.equal(a, b) for a, b in zip(left.parameters(), right.parameters(), strict=True))


class TestSchedule:
    @given(st.integers(1, 200), st.floats(0, 1), st.floats(0, 1))
    @settings(deadline=None, max_examples=40)
    def test_it_is_transformers_curve_one_step_later(self, steps, warmup, final):
        peak = 0.5
        rising = round(warmup * steps)
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=peak)
        reference = get_cosine_with_min_lr_schedule_with_warmup(
            optimizer, num_warmup_steps=rising, num_training_steps=steps, min_lr_rate=final
        )
        for step in range(steps):
            optimizer.step()
            reference.step()
            # Both are a dozen double-precision operations on values up to one.
            assert optimizer.param_groups[0]["lr"] == pytest.approx(
                peak * learning_rate_factor(step, steps, "cosine", warmup, final), rel=1e-12, abs=1e-12
            )

    @pytest.mark.parametrize("schedule", ["linear", "constant"])
    def test_the_other_shapes_are_transformers_too(self, schedule):
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
        if schedule == "linear":
            reference = get_linear_schedule_with_warmup(optimizer, 5, 50)
        else:
            reference = get_constant_schedule_with_warmup(optimizer, 5)
        for step in range(50):
            optimizer.step()
            reference.step()
            ours = learning_rate_factor(step, 50, schedule, 0.1, 0.0)
            assert optimizer.param_groups[0]["lr"] == pytest.approx(ours, abs=1e-12)

    @given(st.integers(1, 300), st.floats(0, 1), st.floats(0, 1), st.sampled_from(["linear", "cosine"]))
    def test_no_step_is_at_zero_and_the_last_is_at_final(self, steps, warmup, final, schedule):
        factors = [learning_rate_factor(step, steps, schedule, warmup, final) for step in range(steps)]
        rising = round(warmup * steps)
        assert all(factor > 0 for factor in factors[:-1])
        assert factors[-1] == pytest.approx(1.0 if rising == steps else final, abs=1e-12)
        assert max(factors) <= 1.0 + 1e-12
        if rising:
            assert factors[rising - 1] == 1.0

    def test_an_unknown_shape_names_the_nearest(self):
        with pytest.raises(BadInputError, match="unknown schedule 'cosin'; did you mean cosine"):
            train(tiny(), batches(BLOCKS, 2), adamw(tiny()), steps=1, schedule="cosin")


class TestOneStep:
    def test_it_is_the_loop_written_out(self):
        """Six steps with clipping, against nothing but torch: equal to the bit."""
        model = tiny()
        bare = copy.deepcopy(model)
        history = train(model, batches(BLOCKS, 4), adamw(model), steps=6, clip=0.5)
        optimizer = adamw(bare)
        bare.train()
        data = batches(BLOCKS, 4)
        for step in range(6):
            optimizer.param_groups[0]["lr"] = 3e-3 * learning_rate_factor(step, 6)
            tokens = next(data)
            loss = bare(input_ids=tokens, labels=tokens, use_cache=False).loss
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(bare.parameters(), 0.5)
            assert history.losses[step] == loss.item()
            assert history.gradient_norms[step] == float(norm)
            assert history.learning_rates[step] == optimizer.param_groups[0]["lr"]
            optimizer.step()
            optimizer.zero_grad()
        assert same(model, bare)

    def test_clipping_bounds_the_step_of_sgd(self):
        model = tiny()
        before = copy.deepcopy(model)
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        history = train(
            model, batches(BLOCKS, 4), optimizer, steps=1, warmup=0.0, schedule="constant", clip=0.01
        )
        moved = math.sqrt(
            sum(
                (a - b).double().square().sum().item()
                for a, b in zip(model.parameters(), before.parameters(), strict=True)
            )
        )
        # The subtraction of weights near 0.1 in float32 leaves 1e-8 of noise in each of 20,000 differences.
        assert moved == pytest.approx(0.01, rel=1e-3)
        assert history.gradient_norms[0] > 0.01

    def test_groups_keep_their_ratio_and_get_their_rates_back(self):
        model = tiny()
        body, head = model.model.parameters(), model.lm_head.parameters()
        optimizer = torch.optim.AdamW([{"params": body, "lr": 1e-3}, {"params": head, "lr": 4e-3}])
        seen = []
        train(
            model,
            batches(BLOCKS, 2),
            optimizer,
            steps=7,
            on_step=lambda step, values: seen.append([group["lr"] for group in optimizer.param_groups]),
        )
        assert all(head_rate == pytest.approx(4 * rate) for rate, head_rate in seen)
        assert len({rate for rate, _ in seen}) > 3
        assert [group["lr"] for group in optimizer.param_groups] == [1e-3, 4e-3]

    def test_a_learning_rate_held_in_a_tensor_is_set_in_place(self):
        model, plain = tiny(), tiny()
        rate = torch.tensor(3e-3)
        train(model, batches(BLOCKS, 2), adamw(model, lr=rate, foreach=False), steps=4)
        train(plain, batches(BLOCKS, 2), adamw(plain, foreach=False), steps=4)
        assert float(rate) == pytest.approx(3e-3)
        # The rate itself is rounded to float32 in the tensor.
        for a, b in zip(model.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)

    def test_on_step_hears_what_the_history_keeps(self):
        model, heard = tiny(), []
        history = train(
            model,
            batches(BLOCKS, 2),
            adamw(model),
            steps=3,
            on_step=lambda step, values: heard.append((step, *values.values())),
        )
        kept = zip(history.losses, history.learning_rates, history.gradient_norms, strict=True)
        assert heard == [(step, *values) for step, values in enumerate(kept, start=1)]

    def test_old_gradients_are_not_added_and_none_are_left(self):
        clean, stale = tiny(), tiny()
        stale(input_ids=BLOCKS[:2], labels=BLOCKS[:2]).loss.backward()
        for model in (clean, stale):
            train(model, batches(BLOCKS, 2), adamw(model), steps=2)
        assert same(clean, stale)
        assert all(weight.grad is None for weight in stale.parameters())

    def test_the_model_is_given_back_in_its_mode(self):
        for training in (True, False):
            model = tiny().train(training)
            train(model, batches(BLOCKS, 2), adamw(model), steps=1)
            assert model.training is training

    def test_it_learns(self):
        """A repeating text of 8 tokens has no entropy: the loss must fall far below ln 32 = 3.47."""
        model = tiny()
        repeating = torch.arange(12).remainder(8).expand(16, 12).contiguous()
        history = train(model, batches(repeating, 8), adamw(model, lr=1e-2), steps=40)
        assert history.losses[0] == pytest.approx(math.log(32), abs=0.3)
        assert history.losses[-1] < 0.1


class TestAccumulation:
    @pytest.mark.parametrize("accumulate", [2, 4])
    def test_it_equals_one_large_batch(self, accumulate):
        large, small = tiny(), tiny()
        one = train(large, batches(BLOCKS, 8), torch.optim.SGD(large.parameters(), lr=0.5), steps=5)
        many = train(
            small,
            batches(BLOCKS, 8 // accumulate),
            torch.optim.SGD(small.parameters(), lr=0.5),
            steps=5,
            accumulate=accumulate,
        )
        assert many.losses == pytest.approx(one.losses, rel=1e-5)
        # The same sums in another order: float32 rounding, over five steps.
        for a, b in zip(large.parameters(), small.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)

    @pytest.mark.parametrize("classify", [False, True])
    def test_labelled_positions_count_alike_however_they_fall(self, classify):
        """Rows with 12, 1, 0 and 5 labels in batches of one, against all four in one batch."""
        labels = BLOCKS[:4].clone()
        for row, kept in enumerate([12, 1, 0, 5]):
            labels[row, : 12 - kept] = -100
        data = {"input_ids": BLOCKS[:4], "labels": labels}
        sizes = {"vocab_size": 32, "hidden_size": 32, "intermediate_size": 64}
        if classify:  # whose loss counts every labelled position, where a language model's skips the first
            models = [
                load_token_classifier("tiny-qwen2", 32, classifier_dropout=0.0, **sizes) for _ in range(2)
            ]
        else:
            models = [load_causal_lm("tiny-qwen2", **sizes) for _ in range(2)]
        rows = [{name: value[row : row + 1] for name, value in data.items()} for row in range(4)]
        whole, apart = (torch.optim.SGD(model.parameters(), lr=0.5) for model in models)
        one = train(models[0], itertools.repeat(data), whole, steps=1)
        many = train(models[1], itertools.cycle(rows), apart, steps=1, accumulate=4)
        assert many.losses == pytest.approx(one.losses, rel=1e-5)
        for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)

    def test_no_label_at_all_is_said(self):
        model = tiny()
        empty = {"input_ids": BLOCKS[:2], "labels": torch.full((2, 12), -100)}
        with pytest.raises(BadInputError, match="no position is labelled in any of 3 batches"):
            train(model, itertools.repeat(empty), adamw(model), steps=1, accumulate=3)

    @pytest.mark.parametrize("accumulate", [1, 2])
    def test_a_batch_without_labels_is_said(self, accumulate):
        model = tiny()
        with pytest.raises(BadInputError, match="labels"):
            train(
                model, itertools.repeat({"input_ids": BLOCKS}), adamw(model), steps=1, accumulate=accumulate
            )


class TestOwnLoss:
    def test_it_replaces_the_models(self):
        """Least squares in one linear layer: full-batch gradient descent reaches the normal equations."""
        generator = torch.Generator().manual_seed(0)
        x, y = torch.randn(50, 3, generator=generator), torch.randn(50, 1, generator=generator)
        model = nn.Linear(3, 1, bias=False)
        train(
            model,
            itertools.repeat({"x": x, "y": y}),
            torch.optim.SGD(model.parameters(), lr=0.3),
            steps=200,
            schedule="constant",
            loss=lambda layer, batch: (layer(batch["x"]) - batch["y"]).square().mean(),
        )
        exact = torch.linalg.lstsq(x, y).solution.T
        torch.testing.assert_close(model.weight.detach(), exact, rtol=1e-4, atol=1e-5)

    def test_its_batches_count_alike(self):
        weight = nn.Parameter(torch.zeros(()))
        model = nn.ParameterList([weight])
        history = train(
            model,
            itertools.cycle([{"value": torch.tensor(1.0)}, {"value": torch.tensor(3.0)}]),
            torch.optim.SGD([weight], lr=1.0),
            steps=1,
            accumulate=2,
            warmup=0.0,
            schedule="constant",
            loss=lambda module, batch: module[0] * batch["value"] + 1,
        )
        assert history.losses == [1.0]
        assert weight.item() == -2.0


class TestDivergence:
    def test_it_stops_before_the_update_and_says_where(self):
        model = tiny()
        optimizer = torch.optim.SGD(model.parameters(), lr=1e20)
        heard = []
        history = train(
            model, batches(BLOCKS, 4), optimizer, steps=50, on_step=lambda step, values: heard.append(step)
        )
        assert history.diverged_at is not None
        assert 1 < history.diverged_at < 10
        assert history.diverged_at == history.steps == heard[-1]
        assert all(math.isfinite(loss) for loss in history.losses[:-1])
        assert not (math.isfinite(history.losses[-1]) and math.isfinite(history.gradient_norms[-1]))

    def test_an_infinite_gradient_is_never_applied(self):
        weight = nn.Parameter(torch.zeros(()))
        history = train(
            nn.ParameterList([weight]),
            itertools.repeat(torch.ones(1)),
            torch.optim.SGD([weight], lr=1.0),
            steps=5,
            loss=lambda module, batch: module[0].abs().sqrt(),  # slope infinite (and NaN) at zero
        )
        assert history.diverged_at == 1
        assert history.losses == [0.0]
        assert weight.item() == 0.0

    def test_weights_that_get_no_gradient_are_no_divergence(self):
        """As where a hook makes the step and drops the gradient."""
        model = tiny()
        for weight in model.parameters():
            weight.register_post_accumulate_grad_hook(lambda weight: setattr(weight, "grad", None))
        history = train(model, batches(BLOCKS, 4), adamw(model), steps=2, clip=1.0)
        assert history.diverged_at is None
        assert all(math.isnan(norm) for norm in history.gradient_norms)


class TestResume:
    def run(self, folder, *, stop_at=None, stateful=True, **changes):
        """Train GPT-2, whose dropout draws from the global random state, and stop by an error."""
        model = tiny("tiny-gpt2")
        torch.manual_seed(1)
        data = batches(BLOCKS, 4, seed=2)
        model_and_data = model, data if stateful else iter(list(itertools.islice(data, 200)))

        def interrupt(step, values):
            if step == stop_at:
                raise KeyboardInterrupt

        settings = {"steps": 20, "accumulate": 2, "clip": 1.0, "checkpoint_every": 4, **changes}
        optimizer = adamw(model, lr=settings.pop("lr", 3e-3))
        history = train(
            *model_and_data, optimizer, checkpoint=folder, on_step=interrupt if stop_at else None, **settings
        )
        return model, history

    @pytest.mark.parametrize("stateful", [True, False])
    @pytest.mark.parametrize("stop_at", [4, 7, 19])
    def test_a_resumed_run_is_the_uninterrupted_one_to_the_bit(self, tmp_path, stop_at, stateful):
        model, history = self.run(None)
        with pytest.raises(KeyboardInterrupt):
            self.run(tmp_path, stop_at=stop_at, stateful=stateful)
        torch.rand(5)
        resumed, resumed_history = self.run(tmp_path, stateful=stateful)
        assert resumed_history == history
        assert same(model, resumed)

    def test_saving_changes_nothing(self, tmp_path):
        (plain, plain_history), (saving, saving_history) = self.run(None), self.run(tmp_path)
        assert same(plain, saving)
        assert plain_history == saving_history

    def test_a_finished_run_is_only_read(self, tmp_path):
        model, history = self.run(tmp_path)
        written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
        again, again_history = self.run(tmp_path)
        assert same(model, again)
        assert again_history == history
        assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == written

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"steps": 30}, "steps was 20, now 30"),
            ({"lr": 1e-3}, r"learning_rates was \[0.003\], now \[0.001\]"),
            ({"accumulate": 1}, "accumulate was 2, now 1"),
        ],
    )
    def test_another_runs_checkpoint_is_refused(self, tmp_path, change, words):
        self.run(tmp_path)
        with pytest.raises(BadInputError, match=words):
            self.run(tmp_path, **change)


class TestPrecision:
    def test_bfloat16_is_autocast_and_leaves_no_trace(self, monkeypatch):
        """A run in bfloat16 between two in float32: each computes in its own format, nothing stays behind."""
        monkeypatch.setattr(devices, "cpu_has_bfloat16", lambda: True)
        formats = []
        for dtype in ("float32", "bfloat16", "float32"):
            model = tiny()
            forward = model.forward
            seen = set()
            model.lm_head.register_forward_hook(
                lambda layer, inputs, output, seen=seen: seen.add(output.dtype)
            )
            train(model, batches(BLOCKS, 2), adamw(model), steps=1, dtype=dtype)
            formats.append(seen)
            assert model.forward == forward
            assert {weight.dtype for weight in model.parameters()} == {torch.float32}
        assert formats == [{torch.float32}, {torch.bfloat16}, {torch.float32}]

    def test_bfloat16_without_hardware_is_refused_before_anything_runs(self, monkeypatch):
        monkeypatch.setattr(devices, "cpu_has_bfloat16", lambda: False)
        model = tiny()
        untouched = copy.deepcopy(model)
        with pytest.raises(BadInputError, match="emulation"):
            train(model, batches(BLOCKS, 2), adamw(model), steps=1, dtype="bfloat16")
        assert same(model, untouched)


class TestProcessState:
    def test_accelerate_is_found_as_it_was_left(self):
        mine = Accelerator(cpu=True, gradient_accumulation_steps=3)
        before = [dict(kind._shared_state) for kind in (PartialState, AcceleratorState, GradientState)]
        model = tiny()
        train(model, batches(BLOCKS, 2), adamw(model), steps=1)
        with pytest.raises(BadInputError, match="batches ended"):
            train(model, iter([]), adamw(model), steps=1)
        assert [
            dict(kind._shared_state) for kind in (PartialState, AcceleratorState, GradientState)
        ] == before
        assert mine.gradient_accumulation_steps == 3
        for kind in (PartialState, AcceleratorState, GradientState):
            kind._reset_state()

    def test_an_accelerator_made_before_does_not_set_the_precision(self, monkeypatch):
        """accelerate refuses a second accelerator in another precision; the run must not meet the first."""
        monkeypatch.setattr(devices, "cpu_has_bfloat16", lambda: True)
        Accelerator(cpu=True, mixed_precision="no")
        try:
            model = tiny()
            seen = set()
            model.lm_head.register_forward_hook(lambda layer, inputs, output: seen.add(output.dtype))
            train(model, batches(BLOCKS, 2), adamw(model), steps=1, dtype="bfloat16")
            assert seen == {torch.bfloat16}
            assert AcceleratorState().mixed_precision == "no"
        finally:
            for kind in (PartialState, AcceleratorState, GradientState):
                kind._reset_state()

    def test_nothing_is_left_where_nothing_was(self):
        model = tiny()
        train(model, batches(BLOCKS, 2), adamw(model), steps=1)
        assert not PartialState._shared_state
        assert not AcceleratorState._shared_state
        assert not GradientState._shared_state

    def test_threads_and_environment_are_left_alone(self):
        threads = torch.get_num_threads()
        environment = dict(os.environ)
        torch.set_num_threads(2)
        try:
            model = tiny()
            train(model, batches(BLOCKS, 2), adamw(model), steps=1)
            assert torch.get_num_threads() == 2
        finally:
            torch.set_num_threads(threads)
        assert dict(os.environ) == environment

    def test_accelerates_environment_does_not_change_the_run(self, monkeypatch):
        plain, environed = tiny(), tiny()
        train(plain, batches(BLOCKS, 2), adamw(plain), steps=2)
        monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
        monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
        train(environed, batches(BLOCKS, 2), adamw(environed), steps=2)
        assert same(plain, environed)


class TestEvaluation:
    @pytest.mark.parametrize("batch_size", [1, 7, 40, 100])
    def test_it_is_the_mean_over_tokens_whatever_the_batch_size(self, batch_size):
        model = tiny()
        with torch.no_grad():
            log_probabilities = model(BLOCKS).logits.double().log_softmax(-1)
        picked = log_probabilities[:, :-1].gather(-1, BLOCKS[:, 1:, None])
        # The model runs in float32 (1e-7 a token); the reference takes the mean in double.
        assert evaluate_loss(model, BLOCKS, batch_size) == pytest.approx(-float(picked.mean()), rel=1e-6)

    def test_uniform_logits_cost_the_log_of_the_vocabulary(self):
        model = tiny()
        nn.init.zeros_(model.lm_head.weight)
        assert evaluate_loss(model, BLOCKS) == pytest.approx(math.log(32), rel=1e-6)

    def test_dropout_is_off_and_the_mode_comes_back(self):
        model = tiny("tiny-gpt2").train()
        assert evaluate_loss(model, BLOCKS) == evaluate_loss(model, BLOCKS)
        assert model.training
        assert all(weight.grad is None for weight in model.parameters())

    @pytest.mark.parametrize("bad", [(BLOCKS[:0], 4), (BLOCKS[:, :1], 4), (BLOCKS, 0)])
    def test_what_cannot_be_evaluated_is_said(self, bad):
        with pytest.raises(BadInputError, match="evaluation needs blocks of at least 2 tokens"):
            evaluate_loss(tiny(), *bad)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"accumulate": 0}, "accumulate must be at least 1, got 0"),
        ({"warmup": 1.5}, "warmup is a share and must lie between 0 and 1, got 1.5"),
        ({"final": -0.1}, "final is a share"),
        ({"clip": 0.0}, "clip must be above 0"),
        ({"clip": math.nan}, "clip must be above 0"),
        ({"checkpoint_every": 0}, "checkpoint_every must be at least 1"),
        ({"dtype": "bf16"}, "dtype must be float32 or bfloat16, got 'bf16'"),
    ],
)
def test_settings_out_of_range_are_said(setting, words):
    model = tiny()
    with pytest.raises(BadInputError, match=words):
        train(model, batches(BLOCKS, 2), adamw(model), **{"steps": 1, **setting})


def test_batches_that_end_early_are_said():
    model = tiny()
    with pytest.raises(BadInputError, match="the batches ended after 3 of 9 steps"):
        train(model, iter([BLOCKS[:2]] * 3), adamw(model), steps=9)


def test_a_launch_in_several_processes_is_refused(monkeypatch):
    monkeypatch.setattr(Accelerator, "num_processes", property(lambda self: 4))
    model = tiny()
    with pytest.raises(BadInputError, match="trains in one process, and was launched in 4"):
        train(model, batches(BLOCKS, 2), adamw(model), steps=1)
