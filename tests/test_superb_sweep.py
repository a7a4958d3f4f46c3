# SPDX-License-Identifier: Apache-2.0
"""The sweep: each head keeps its best state on dev, the median over seeds chooses, and a break changes no number."""

import json
import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from pluri.benchmarks.superb import order
from pluri.benchmarks.superb import sweep as module
from pluri.benchmarks.superb.sweep import RESULT, STATE, Plan, Probe, Run, choose, state_bytes, sweep


class Line(Probe):
    """Fits y = 2 x with one number for each head; the figure on dev is minus the distance from 2."""

    def __init__(self, plan, stop=None):
        torch.manual_seed(0)
        slope = nn.Parameter(torch.randn(len(plan.seeds), 1, 1).repeat(1, len(plan.rates), 1))
        self._heads = nn.ParameterDict({"slope": slope})
        self.stop, self.steps = stop, []

    @property
    def heads(self):
        return self._heads

    def losses(self, step):
        if step == self.stop:
            raise KeyboardInterrupt
        self.steps.append(step)
        x = torch.randn(8, generator=torch.Generator().manual_seed(step))
        return ((self._heads["slope"] - 2.0) * x).square().mean(-1)

    def dev(self):
        return -(self._heads["slope"] - 2.0).abs()[..., 0].detach().double()

    def said(self, folder):
        (folder / "said.txt").write_text("said")
        return [[{"slope": float(one)} for one in group] for group in self._heads["slope"].detach()[..., 0]]

    def shares(self):
        return None


PLAN = Plan((1.0, 1e-1, 1e-3), (0, 1), 90, 9, 1.0, "cpu")


def quiet(line):
    pass


def test_each_head_is_scored_where_it_was_best_on_dev(tmp_path):
    runs = sweep(Line(PLAN), PLAN, tmp_path, quiet)
    assert [(run.rate, run.seed) for run in runs] == [(rate, seed) for seed in (0, 1) for rate in PLAN.rates]
    for run in runs:
        assert [point[0] for point in run.curve] == list(range(10, 91, 10))
        best = max(run.curve, key=lambda point: point[2])
        assert (run.dev, run.step) == (best[2], best[0])
        assert abs(run.test["slope"] - 2.0) == pytest.approx(-run.dev, abs=1e-6)
    won, medians = choose(runs)
    assert won[0].rate == 1e-1 and len(won) == 2 and list(medians) == list(PLAN.rates)


@pytest.mark.parametrize("stop", [5, 37, 60, 89])
def test_a_sweep_that_was_cut_off_ends_with_the_same_numbers(tmp_path, stop):
    whole = sweep(Line(PLAN), PLAN, tmp_path / "whole", quiet)
    with pytest.raises(KeyboardInterrupt):
        sweep(Line(PLAN, stop), PLAN, tmp_path / "cut", quiet)
    assert (tmp_path / "cut" / STATE).is_file() == (stop > 10) and not (tmp_path / "cut" / RESULT).is_file()
    again = Line(PLAN)
    assert sweep(again, PLAN, tmp_path / "cut", quiet) == whole
    assert again.steps[0] == stop // 10 * 10 and not (tmp_path / "cut" / STATE).is_file()


@pytest.mark.parametrize("stop", [5, 37, 89])
def test_a_sweep_that_was_cut_off_between_evaluations_goes_on_there_with_the_same_numbers(tmp_path, stop, monkeypatch):
    whole = sweep(Line(PLAN), PLAN, tmp_path / "whole", quiet)
    monkeypatch.setattr(module, "_LONGEST", 0.0)
    monkeypatch.setattr(module, "_EVERY", 0.0)
    lines = []
    with pytest.raises(KeyboardInterrupt):
        sweep(Line(PLAN, stop), PLAN, tmp_path / "cut", lines.append)
    assert lines[0].startswith("step 1 of 90: not scored yet; about ") and len(lines) == stop
    assert stop < 10 or lines[-1].startswith(f"step {stop} of 90: best so far -")
    again = Line(PLAN)
    assert sweep(again, PLAN, tmp_path / "cut", quiet) == whole and again.steps[0] == stop


def test_the_time_that_is_left_is_that_of_the_steps_taken(tmp_path, monkeypatch):
    line, lines = Line(PLAN), []
    clock = SimpleNamespace(monotonic=lambda: 10.0 * len(line.steps), perf_counter=lambda: 0.0)  # ten seconds a step
    monkeypatch.setattr(module, "time", clock)
    sweep(line, PLAN, tmp_path, lines.append)
    assert [one.split()[1] for one in lines] == [str(step) for step in range(4, 91, 4)]  # every 30 s
    assert lines[0].endswith("; about 14 min left") and lines[-1].endswith("; about 20 s left")


@pytest.mark.parametrize("damage", ["emptied", "cut short", "zeros inside", "overwritten"])
def test_a_state_that_cannot_be_read_is_named_and_its_sweep_begins_anew(tmp_path, damage):
    whole = sweep(Line(PLAN), PLAN, tmp_path / "whole", quiet)
    with pytest.raises(KeyboardInterrupt):
        sweep(Line(PLAN, 37), PLAN, tmp_path / "cut", quiet)
    path, lines = tmp_path / "cut" / STATE, []
    content = path.read_bytes()
    third = len(content) // 3
    kept = {
        "emptied": b"",
        "cut short": content[: 2 * third],
        "zeros inside": content[:third] + bytes(third) + content[2 * third :],
        "overwritten": b"no state\n",
    }
    path.write_bytes(kept[damage])
    again = Line(PLAN)
    assert sweep(again, PLAN, tmp_path / "cut", lines.append) == whole and again.steps[0] == 0
    assert lines == [f"{path} is cut short or damaged: this sweep begins anew"]


def test_a_state_and_a_result_are_on_the_disk_before_they_take_their_places(tmp_path, monkeypatch):
    done, fsync, rename = [], module.os.fsync, module.Path.rename

    def synced(descriptor):
        done.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    def renamed(self, target):
        assert done and done.pop() == str(self), f"{self} is renamed before it is on the disk"
        return rename(self, target)

    monkeypatch.setattr(module.os, "fsync", synced)
    monkeypatch.setattr(module.Path, "rename", renamed)
    sweep(Line(PLAN), PLAN, tmp_path, quiet)
    assert (tmp_path / RESULT).is_file() and not done


def test_the_size_of_a_state_is_known_before_it_is_saved(tmp_path):
    class Wide(Line):
        def __init__(self, plan, stop=None):
            super().__init__(plan, stop)
            self._heads["unused"] = nn.Parameter(torch.zeros(len(plan.seeds), len(plan.rates), 50_000))

    size = state_bytes(Wide(PLAN).heads)
    with pytest.raises(KeyboardInterrupt):
        sweep(Wide(PLAN, 20), PLAN, tmp_path, quiet)
    assert (tmp_path / STATE).stat().st_size == pytest.approx(size, rel=0.01)


def test_a_finished_sweep_is_not_repeated(tmp_path):
    runs = sweep(Line(PLAN), PLAN, tmp_path, quiet)
    again = Line(PLAN)
    assert sweep(again, PLAN, tmp_path, quiet) == runs and again.steps == []
    assert json.loads((tmp_path / RESULT).read_text())["seconds"] >= 0


def test_the_same_sweep_has_the_same_numbers_and_a_head_does_not_feel_the_others(tmp_path):
    runs = sweep(Line(PLAN), PLAN, tmp_path / "a", quiet)
    assert sweep(Line(PLAN), PLAN, tmp_path / "b", quiet) == runs
    one = PLAN._replace(rates=(1e-1,))
    alone = sweep(Line(one), one, tmp_path / "c", quiet)
    assert [run.test["slope"] for run in alone] == pytest.approx([r.test["slope"] for r in runs if r.rate == 1e-1])


def test_dev_is_looked_at_evenly_and_at_the_end():
    assert [step for step in range(1, 91) if PLAN.evaluated(step)] == list(range(10, 91, 10))
    uneven = PLAN._replace(steps=25, evaluations=4)
    assert [step for step in range(1, 26) if uneven.evaluated(step)] == [7, 13, 19, 25]
    for steps, wanted in ((39, 20), (41, 40), (79, 40), (800, 100), (200_000, 40)):
        plan = PLAN._replace(steps=steps, evaluations=wanted)
        looks = [step for step in range(1, steps + 1) if plan.evaluated(step)]
        gaps = {late - early for early, late in zip([0, *looks], looks, strict=False)}
        assert len(looks) == wanted and looks[-1] == steps and max(gaps) - min(gaps) <= 1
    few = PLAN._replace(steps=3, evaluations=40)
    assert [step for step in range(1, 4) if few.evaluated(step)] == [1, 2, 3]


def test_a_sweep_in_which_no_loss_is_a_number_stops(tmp_path):
    class Broken(Line):
        def losses(self, step):
            return super().losses(step) * torch.nan

    with pytest.raises(
        ValueError, match="at step 10 no head has a finite loss and weights any more: name smaller learning rates"
    ):
        sweep(Broken(PLAN), PLAN, tmp_path, quiet)


def test_a_head_that_diverges_is_told_in_words_that_every_reader_of_json_knows(tmp_path):
    class Diverging(Line):
        def losses(self, step):
            found = super().losses(step)
            return torch.cat([found[:, :1] * torch.nan, found[:, 1:]], dim=1)

        def dev(self):
            found = super().dev()
            return torch.cat([found[:, :1] * torch.nan, found[:, 1:]], dim=1)

        def shares(self):
            return self._heads["slope"].detach()

    made = sweep(Diverging(PLAN), PLAN, tmp_path, quiet)

    def refuse(word):
        raise AssertionError(word)

    json.loads((tmp_path / RESULT).read_text(), parse_constant=refuse)
    runs = sweep(Diverging(PLAN), PLAN, tmp_path, quiet)
    assert repr(runs) == repr(made) and {run.dev for run in runs if run.rate == 1.0} == {-torch.inf}
    assert all(torch.tensor([point[1] for point in run.curve]).isnan().all() for run in runs if run.rate == 1.0)
    assert choose(runs)[0][0].rate == 1e-1


def test_weights_that_are_no_numbers_are_not_kept_whatever_they_score_on_dev(tmp_path):
    class Broken(Line):
        """The first rates' weights break at step 25 while losses stay finite; dev finds such heads the best."""

        broken = 1

        def losses(self, step):
            if step == 25:
                self._heads["slope"].data[:, : self.broken] = torch.nan
            return super().losses(step).nan_to_num(0.0)

        def dev(self):
            return super().dev().nan_to_num(1.0)

    runs = sweep(Broken(PLAN), PLAN, tmp_path / "one", quiet)
    for run in (run for run in runs if run.rate == 1.0):
        assert run.step in (10, 20) and run.dev < 0 and run.test["slope"] == pytest.approx(2.0 + run.dev, abs=2.0)
        assert run.curve[-1][2] == 1.0
    Broken.broken = 3
    with pytest.raises(ValueError, match="at step 30 no head has a finite loss and weights any more"):
        sweep(Broken(PLAN), PLAN, tmp_path / "all", quiet)


def test_the_median_over_seeds_chooses_and_not_the_luckiest_seed():
    def run(rate, seed, dev):
        return Run(rate, seed, dev, 1, {}, [], [])

    lucky = [run(1e-1, 0, 0.2), run(1e-1, 1, 0.2), run(1e-1, 2, 0.99)]
    steady = [run(1e-2, 0, 0.5), run(1e-2, 1, 0.6), run(1e-2, 2, 0.5)]
    won, medians = choose([*lucky, *steady])
    assert won == steady and medians == {1e-1: 0.2, 1e-2: 0.5}
    assert choose([run(1e-1, 0, 0.5), run(1e-2, 0, 0.5)])[0][0].rate == 1e-1


def test_an_epoch_brings_each_utterance_once_and_any_step_can_be_the_first():
    steps = [order.shuffled(10, 4, 3, step) for step in range(10)]
    together = np.concatenate(steps)
    for epoch in range(4):
        assert sorted(together[10 * epoch : 10 * epoch + 10].tolist()) == list(range(10))
    assert np.array_equal(order.shuffled(10, 4, 3, 7), steps[7])
    assert not np.array_equal(order.shuffled(10, 4, 4, 7), steps[7])
    assert len(order.shuffled(3, 32, 0, 0)) == 32  # fewer utterances than a batch holds


def test_balanced_drawing_gives_each_class_the_same_chance():
    classes = [np.arange(0, 1), np.arange(1, 100), np.arange(100, 104)]
    drawn = np.concatenate([order.balanced(classes, 64, 0, step) for step in range(200)])
    shares = [np.isin(drawn, one).mean() for one in classes]
    assert np.allclose(shares, 1 / 3, atol=0.02)
    assert set(drawn.tolist()) == set(range(104))
    assert np.array_equal(order.balanced(classes, 5, 1, 9), order.balanced(classes, 5, 1, 9))


def test_pieces_are_drawn_evenly():
    counts = np.array([1, 4, 64])
    drawn = np.stack([order.pick(counts, 0, step) for step in range(2000)])
    assert (drawn < counts).all() and (drawn >= 0).all()
    assert np.bincount(drawn[:, 1]).tolist() == pytest.approx([500] * 4, rel=0.2) and len(set(drawn[:, 2])) == 64
