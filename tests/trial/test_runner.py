"""The runner: nothing measured twice, nothing lost, nothing mixed, whatever happens to it."""

from __future__ import annotations

import json
import math
import os
import threading
import time
from pathlib import Path

import pytest

from papertrial.errors import BadInputError
from papertrial.trial import files
from papertrial.trial.evidence import TUNING_SEED, Evidence
from papertrial.trial.listening import Silent
from papertrial.trial.settings import Identity
from papertrial.trial.tuning import at_edge, best_points


def numbers(result):
    return {(one.arm, one.seed): dict(one.metrics) for one in result.measurements}


class Recorder(Silent):
    """Keeps what the runner says."""

    def __init__(self):
        self.notices, self.failures, self.done = [], [], []

    def notice(self, message):
        self.notices.append(message)

    def failed(self, failure):
        self.failures.append(failure)

    def measured(self, measurement):
        self.done.append(measurement)


def test_every_pair_is_measured_once_and_written(bench):
    result = bench.run()
    assert set(numbers(result)) == {(arm, seed) for arm in ("baseline", "method") for seed in range(3)}
    assert set(bench.calls().values()) == {1}
    one = result.measurements[0]
    assert one.wall_seconds > 0
    assert one.peak_bytes > 1_000_000
    assert one.threads == 1
    environment = result.evidence.environment(one.environment)
    assert environment["machine"]["cores"] >= 1
    assert "papertrial" in environment["packages"]
    assert result.evidence.about["settings"]["gap"] == 1.0


def test_the_grid_is_swept_on_the_tuning_seed_and_its_best_point_measured(bench):
    result = bench.run()
    assert [one.seed for one in result.sweep] == [TUNING_SEED] * 3
    assert {one.point["rate"] for one in result.measurements if one.arm == "method"} == {0.1}
    assert all(one.point == {} for one in result.measurements if one.arm == "baseline")
    best = best_points(bench.trial(), result.sweep)
    assert best == {"baseline": {}, "method": {"rate": 0.1}}
    assert at_edge(bench.trial(), "method", {"rate": 0.1}) == []
    assert at_edge(bench.trial(), "method", {"rate": 1.0}) == ["rate"]


def test_a_setting_that_the_user_gives_is_not_tuned(bench):
    result = bench.run({"rate": 1.0})
    assert result.sweep == []
    assert {one.point.get("rate") for one in result.measurements} == {None}


def test_a_second_run_measures_only_what_is_missing(bench):
    first = bench.run(seeds=2)
    second = bench.run(seeds=4)
    assert set(bench.calls().values()) == {1}
    assert len(second.measurements) == 8
    assert {pair: value for pair, value in numbers(second).items() if pair[1] < 2} == numbers(first)


def test_changed_settings_never_mix_with_old_evidence(bench):
    first = bench.run()
    second = bench.run({"gap": 2.0})
    assert first.evidence.folder != second.evidence.folder
    assert numbers(second)["method", 0]["loss"] == pytest.approx(numbers(first)["method", 0]["loss"] - 1.0)


def test_an_edited_input_file_never_mixes_with_old_evidence(bench, tmp_path):
    data = tmp_path / "data.txt"
    data.write_text("one")
    trial = bench.trial(raising=str(data))
    before = Identity("p", "t", trial).hash
    data.write_text("other")
    assert Identity("p", "t", trial).hash != before


def test_a_new_version_of_a_trial_never_mixes_with_old_evidence(bench, monkeypatch):
    before = Identity("p", "t", bench.trial()).hash
    monkeypatch.setattr(bench.module.NoiseTrial, "version", 2)
    assert Identity("p", "t", bench.trial()).hash != before


def test_serial_pool_and_ray_give_the_same_evidence(bench, tmp_path):
    serial = bench.run()
    results = {"serial": numbers(serial)}
    bench.home = tmp_path / "pool"
    results["pool"] = numbers(bench.run(workers=2))
    bench.home = tmp_path / "ray"
    results["ray"] = numbers(bench.run(workers=2, ray="local"))
    assert results["serial"] == results["pool"] == results["ray"]


def test_a_killed_worker_is_replaced_and_its_pair_measured(bench):
    result = bench.run({"killing": "method"}, workers=2)
    assert result.failures == []
    assert len(result.measurements) == 6


def test_a_killed_ray_worker_is_replaced_and_its_pair_measured(bench):
    result = bench.run({"killing": "method"}, ray="local", workers=2)
    assert result.failures == []
    assert len(result.measurements) == 6


def test_a_job_that_kills_every_worker_is_given_up(bench):
    result = bench.run(trial=bench.module.DyingTrial(), workers=2)
    assert {failure.arm for failure in result.failures} == {"method"}
    assert "killed 3 times" in result.failures[0].error
    assert len(result.measurements) == 3  # all of the baseline


def test_a_slow_job_is_not_blamed_for_the_deaths_of_its_neighbour(bench):
    """The baseline's one pair runs for two seconds beside a method that dies at once, every time."""
    result = bench.run(trial=bench.module.DyingTrial(seconds=2.0), workers=2, seeds=1)
    assert {failure.arm for failure in result.failures} == {"method"}
    assert [one.arm for one in result.measurements] == ["baseline"]


def test_an_arm_that_raises_leaves_the_others(bench):
    recorder = Recorder()
    result = bench.run({"raising": "baseline"}, recorder)
    assert {one.arm for one in result.measurements} == {"method"}
    assert [failure.arm for failure in recorder.failures] == ["baseline"] * 3
    assert "was told to raise" in result.failures[0].traceback
    kept = sorted((result.evidence.folder / "failures").iterdir())
    assert "was told to raise" in kept[0].read_text()


def test_a_metric_that_was_not_declared_is_a_failure(bench, monkeypatch):
    monkeypatch.setattr(
        bench.module.NoiseTrial, "metrics", {"other": bench.module.NoiseTrial.metrics["loss"]}
    )
    monkeypatch.setattr(bench.module.NoiseTrial, "grid", {})
    result = bench.run()
    assert result.measurements == []
    assert "lacking: other; not declared: bytes, loss" in result.failures[0].error


def test_bad_settings_stop_before_anything_is_measured(bench):
    with pytest.raises(BadInputError, match="seconds must not be negative, got -1"):
        bench.run({"seconds": -1})
    assert bench.calls() == {}


def test_a_home_that_cannot_be_written_stops_before_anything_is_measured(bench, tmp_path):
    (tmp_path / "file").write_text("")
    bench.home = tmp_path / "file" / "home"
    with pytest.raises(BadInputError, match="PAPERTRIAL_HOME"):
        bench.run()
    assert bench.calls() == {}


def test_a_corrupt_file_is_named_set_aside_and_measured_again(bench):
    first = bench.run()
    folder = first.evidence.folder / "measured"
    (folder / "baseline.seed-1.json").write_text('[{"arm": "baseline", "se')
    (folder / "method.seed-2.json").write_text('[{"arm": "method", "seed": 2, "metrics": {"loss": "many"}}]')
    recorder = Recorder()
    second = bench.run(listener=recorder)
    assert numbers(second) == numbers(first)
    assert sorted(path.name for path in (first.evidence.folder / "set-aside").iterdir()) == [
        "baseline.seed-1.json",
        "method.seed-2.json",
    ]
    assert all("set aside" in notice for notice in recorder.notices)
    assert len(recorder.notices) == 2


def test_a_full_disk_loses_no_number(bench, monkeypatch):
    real, full = files.write_atomically, threading.Event()

    def write(path, content):
        if full.is_set() and "measured" in str(path):
            raise OSError(28, "No space left on device")
        real(path, content)

    monkeypatch.setattr("papertrial.trial.evidence.write_atomically", write)
    full.set()
    recorder = Recorder()
    result = bench.run(listener=recorder)
    assert len(result.measurements) == 6
    assert "No space left" in result.unsaved["baseline.seed-0"]
    assert any("cannot be written" in notice for notice in recorder.notices)
    assert list((result.evidence.folder).rglob(".half-*")) == []
    full.clear()
    again = bench.run()  # there was no space, so the numbers are made again
    assert numbers(again) == numbers(result)
    assert again.unsaved == {}


def test_a_really_full_disk_leaves_no_half_file(tmp_path):
    """/dev/full refuses every write as a full disk does."""
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    target = tmp_path / "evidence.json"
    target.write_bytes(b"old")
    real_open = Path.open

    def open_full(self, *args, **kwargs):
        handle = real_open(self, *args, **kwargs)
        if self.name.startswith(".half-"):
            os.dup2(os.open("/dev/full", os.O_WRONLY), handle.fileno())
        return handle

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "open", open_full)
        with pytest.raises(OSError, match="No space left"):
            files.write_atomically(target, b"new" * 10_000)
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["evidence.json"]


def test_ctrl_c_leaves_what_is_done(bench):
    class Impatient(Recorder):
        def measured(self, measurement):
            super().measured(measurement)
            if len(self.done) == 5:  # three points of the sweep and two pairs
                raise KeyboardInterrupt

    result = bench.run(listener=Impatient())
    assert result.interrupted
    assert len(result.measurements) == 2
    again = bench.run()
    assert not again.interrupted
    assert set(bench.calls().values()) == {1}


def test_two_runs_at_once_share_the_work(bench):
    results = {}

    def work(name):
        results[name] = bench.run({"seconds": 0.03}, seeds=6)

    threads = [threading.Thread(target=work, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert numbers(results["a"]) == numbers(results["b"])
    assert len(results["a"].measurements) == 12
    assert set(bench.calls().values()) == {1}


def test_a_timed_trial_interleaves_its_arms_in_one_process(bench):
    trial = bench.module.TimingTrial(milliseconds=0.5)
    recorder = Recorder()
    result = bench.run(trial=trial, name="timing", listener=recorder, workers=2)
    order = [(one.arm, one.seed) for one in recorder.done]
    expected = []
    for seed in range(10):
        arms = ("baseline", "method") if seed % 2 == 0 else ("method", "baseline")
        expected += [(arm, seed) for arm in arms]
    assert order == expected
    assert len({path.name for path in (result.evidence.folder / "measured").iterdir()}) == 10


def test_two_timed_trials_wait_for_each_other(bench):
    trial = bench.module.TimingTrial(milliseconds=5)
    recorder = Recorder()
    thread = threading.Thread(target=lambda: bench.run(trial=trial, name="timing"))
    thread.start()
    time.sleep(0.05)
    bench.run(trial=bench.module.TimingTrial(milliseconds=0.2), name="timing", listener=recorder)
    thread.join()
    assert any("another timed trial is running" in notice for notice in recorder.notices)


def test_only_some_arms(bench):
    result = bench.run(arms=("baseline",))
    assert {one.arm for one in result.measurements} == {"baseline"}
    with pytest.raises(BadInputError, match="unknown arm 'metod'; did you mean method"):
        bench.run(arms=("metod",))


def test_prepared_work_is_made_once_for_each_seed(bench):
    bench.run(seeds=2)
    bench.run(seeds=2, settings={"gap": 3.0})
    assert (
        len(list((bench.home / "cache").glob("prepared-lab_paper-*/offset"))) == 3
    )  # two seeds and the tuning


def test_numbers_that_are_not_finite_come_back(bench):
    result = bench.run({"gap": math.inf}, arms=("baseline", "method"))
    file = result.evidence.job_file("baseline.seed-0")
    json.loads(file.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no strict JSON"))
    assert {failure.arm for failure in result.failures} == {"method"}  # no point of its grid was finite
    assert "gave a finite loss" in result.failures[-1].error


def test_curves_and_artifacts_are_kept(bench):
    result = bench.run(seeds=1)
    steps, losses = result.curves["method"][0]["loss"]
    assert steps == list(range(1, 21))
    assert losses[1] == pytest.approx(1.5)
    assert (result.evidence.folder / "artifacts" / "method@0" / "note.txt").read_text() == "method 0"


def test_a_long_curve_is_thinned_and_keeps_its_ends(bench):
    from papertrial.trial.measuring import Job, JobWatch

    job = Job("j", "p", bench.trial(), (), 1, bench.home)
    watch = JobWatch(job, "baseline", 0, bench.home)
    for step in range(1, 100_001):
        watch.step(step, 100_000, loss=float(step))
    steps, values = watch.curves()["loss"]
    assert len(steps) <= 801
    assert (steps[0], steps[-1]) == (1, 100_000)
    assert steps == values


def test_ten_thousand_pairs_are_listed_within_a_second(bench):
    result = bench.run(seeds=1)
    source = result.evidence.job_file("baseline.seed-0").read_text()
    for seed in range(1, 10_000):
        copy = source.replace('"seed": 0', f'"seed": {seed}')
        (result.evidence.folder / "measured" / f"baseline.seed-{seed}.json").write_text(copy)
    start = time.process_time()  # the machine may be busy with other work; what counts is this work
    assert len(Evidence(result.evidence.folder).measurements()) >= 10_000
    assert time.process_time() - start < 1.5
