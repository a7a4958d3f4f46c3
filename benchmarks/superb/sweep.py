# SPDX-License-Identifier: Apache-2.0
"""The sweep of learning rates and seeds: all heads are trained together, and each keeps its best state on dev.

Nothing depends on when it is done: a sweep that was cut off goes on from its last saved state, ten minutes old at most,
with the same numbers, and a finished one is read from its folder.
Shape letters: G seeds, K learning rates.
"""

import json
import math
import os
import pickle
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ...ssl import memory
from ...ssl.parallel import find_device
from ..files import plain
from .stacked import LATE, Adam, Epsilon

RESULT, STATE = "sweep.json", "state.pt"
RULES = 2  # one more with every change that gives other figures: sweeps by earlier rules are not gone on with
_EVERY = 30.0  # seconds between lines on a sweep
_LONGEST = 600.0  # seconds after which a state is saved between evaluations too


class Plan(NamedTuple):
    """How heads are trained."""

    rates: tuple[float, ...]
    seeds: tuple[int, ...]
    steps: int
    evaluations: int  # of dev, evenly over the steps
    clip: float  # greatest norm of a head's gradient
    device: str = "auto"
    decay: float = 0.0  # of weights: above 0 is AdamW
    epsilon: Epsilon = LATE

    def evaluated(self, step: int) -> bool:
        """Whether dev is looked at after this step, the first being 1."""
        looks = min(self.evaluations, self.steps)
        return step * looks // self.steps > (step - 1) * looks // self.steps


class Probe(ABC):
    """A task as the sweep sees it: heads for all seeds and learning rates, and what they are trained and scored on."""

    remarks: Sequence[str] = ()  # what is to be known of this encoder on these data, to stand beside the score

    @property
    @abstractmethod
    def heads(self) -> nn.Module:
        """All heads; parameters are (G, K, ...)."""

    @abstractmethod
    def losses(self, step: int) -> Tensor:
        """(G, K) each head's loss on the batch of a step, from 0, which depends on the step alone."""

    @abstractmethod
    def dev(self) -> Tensor:
        """(G, K) float64 on the CPU: the figure on dev by which a head's best state is chosen; more is better."""

    @abstractmethod
    def said(self, folder: Path) -> list[list[dict[str, float]]]:
        """Of each seed and rate the figures on test, the main one first. Writes the predictions into the folder."""

    @abstractmethod
    def shares(self) -> Tensor | None:
        """(G, K, L): the share of each layer, if layers are weighted."""


class Run(NamedTuple):
    """One head's training."""

    rate: float
    seed: int
    dev: float  # the best
    step: int  # at which it was reached
    test: dict[str, float]  # there
    curve: list[list[float]]  # [step, mean training loss since the last, dev] of each evaluation
    shares: list[float]  # of the layers, at the best step


def sweep(probe: Probe, plan: Plan, folder: Path, say: Callable[[str], None]) -> list[Run]:
    """All runs, seed by seed. Raises ValueError if every head's loss stops being a number."""
    if (folder / RESULT).is_file():
        return read_runs(folder)
    folder.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    device = find_device(plan.device)
    if device.type == "cpu":
        memory.keep()
    probe.heads.to(device)
    training = _Training(probe, plan)
    training.load(folder / STATE, say)
    training.run(folder / STATE, say)
    probe.heads.load_state_dict(training.best)
    runs = training.runs(probe.said(folder))
    seconds = round(time.perf_counter() - start, 1)
    beside = folder / f".{RESULT}.partial"
    told = {"seconds": seconds, "runs": [plain(run._asdict()) for run in runs]}
    beside.write_text(json.dumps(told, allow_nan=False) + "\n")
    _rename(beside, folder / RESULT)
    (folder / STATE).unlink(missing_ok=True)
    return runs


def read_runs(folder: Path) -> list[Run]:
    """The runs of a finished sweep; what was no number is NaN, and a figure on dev that never was one -inf."""
    runs = []
    for told in json.loads((folder / RESULT).read_text())["runs"]:
        told["dev"] = -math.inf if told["dev"] is None else told["dev"]
        told["test"] = {name: _number(value) for name, value in told["test"].items()}
        told["curve"] = [[_number(value) for value in point] for point in told["curve"]]
        told["shares"] = [_number(value) for value in told["shares"]]
        runs.append(Run(**told))
    return runs


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def state_bytes(heads: nn.Module) -> int:
    """What STATE takes of disk: the heads, their best, and Adam's two moments of them."""
    return 4 * sum(parameter.nbytes for parameter in heads.parameters())


def _words(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 100
        else f"{seconds / 60:.0f} min"
        if seconds < 6000
        else f"{seconds / 3600:.1f} h"
    )


class _Training:
    """A sweep in the making."""

    def __init__(self, probe: Probe, plan: Plan) -> None:
        self.probe, self.plan = probe, plan
        self.adam = Adam(list(probe.heads.parameters()), plan.rates, plan.clip, plan.decay, plan.epsilon)
        self.step = 0
        self.total, self.since = torch.zeros_like(self.adam.steps), 0  # of losses since the last evaluation, its steps
        self.best = {name: value.clone() for name, value in probe.heads.state_dict().items()}
        self.best_dev = torch.full((len(plan.seeds), len(plan.rates)), -torch.inf, dtype=torch.float64)
        self.best_step = torch.zeros_like(self.best_dev, dtype=torch.int64)
        self.curve: list[tuple[int, list[list[float]], list[list[float]]]] = []

    def run(self, state: Path, say: Callable[[str], None]) -> None:
        """Trains from where it stands to the end."""
        begun, first = time.monotonic(), self.step
        said = saved = begun
        while self.step < self.plan.steps:
            losses = self.probe.losses(self.step)
            losses.sum().backward()
            self.adam.step()
            self.total, self.since, self.step = self.total + losses.detach(), self.since + 1, self.step + 1
            evaluated = self.plan.evaluated(self.step)
            if evaluated:
                self._evaluate()
            if evaluated or time.monotonic() - saved > _LONGEST:
                self._save(state)
                saved = time.monotonic()
            if time.monotonic() - said > _EVERY:
                said = time.monotonic()
                left = (said - begun) / (self.step - first) * (self.plan.steps - self.step)
                known = f"best so far {float(self.best_dev.max()):.4f}" if self.curve else "not scored yet"
                say(f"step {self.step} of {self.plan.steps}: {known}; about {_words(left)} left")

    def _evaluate(self) -> None:
        losses, whole = self.total.cpu() / self.since, self._whole()
        if not (losses.isfinite().any() and whole.any()):
            raise ValueError(
                f"at step {self.step} no head has a finite loss and weights any more: "
                "name smaller learning rates by --grid"
            )
        self.total, self.since = torch.zeros_like(self.total), 0
        dev = self.probe.dev()
        better = (dev > self.best_dev) & whole
        self.best_dev = torch.where(better, dev, self.best_dev)
        self.best_step = torch.where(better, self.step, self.best_step)
        for name, value in self.probe.heads.state_dict().items():
            mine = better.to(value.device)[(...,) + (None,) * (value.ndim - 2)]
            self.best[name] = torch.where(mine, value, self.best[name])
        self.curve.append((self.step, losses.tolist(), dev.tolist()))

    def _whole(self) -> Tensor:
        """(G, K) bool: whose weights are all finite; of others a figure on dev says nothing, and they are not kept."""
        finite = [value.isfinite().flatten(2).all(2) for value in self.probe.heads.state_dict().values()]
        return torch.stack(finite).all(0).cpu()

    def _save(self, path: Path) -> None:
        beside = path.with_suffix(".partial")
        kept = {
            "step": self.step,
            "total": self.total,
            "since": self.since,
            "heads": self.probe.heads.state_dict(),
            "adam": self.adam.state(),
            "best": self.best,
            "best_dev": self.best_dev,
            "best_step": self.best_step,
            "curve": self.curve,
        }
        torch.save(kept, beside)
        _rename(beside, path)

    def load(self, path: Path, say: Callable[[str], None]) -> None:
        """Goes on from what an earlier process has saved, if it has and it can be read."""
        if not path.is_file():
            return
        try:  # on the CPU, as a full GPU would look like a broken file
            kept: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except (EOFError, RuntimeError, pickle.UnpicklingError):
            say(f"{path} is cut short or damaged: this sweep begins anew")
            return
        device = self.adam.steps.device
        self.step, self.curve = kept["step"], kept["curve"]
        self.best = {name: value.to(device) for name, value in kept["best"].items()}
        self.total, self.since = kept["total"].to(device), kept["since"]
        self.best_dev, self.best_step = kept["best_dev"], kept["best_step"]
        self.probe.heads.load_state_dict(kept["heads"])
        self.adam.load(kept["adam"])

    def runs(self, test: list[list[dict[str, float]]]) -> list[Run]:
        """What came of each head; the heads hold their best states."""
        shares = self.probe.shares()
        found = []
        for g, seed in enumerate(self.plan.seeds):
            for k, rate in enumerate(self.plan.rates):
                curve = [[step, losses[g][k], dev[g][k]] for step, losses, dev in self.curve]
                layers = [] if shares is None else [round(share, 6) for share in shares[g, k].tolist()]
                best = float(self.best_dev[g, k]), int(self.best_step[g, k])
                found.append(Run(rate, seed, *best, test[g][k], curve, layers))
        return found


def _rename(beside: Path, path: Path) -> None:
    """Puts a file in its place when all of it is on the disk, so that a crash of the machine leaves no empty one."""
    with beside.open("rb") as file:
        os.fsync(file.fileno())
    beside.rename(path)


def choose(runs: Sequence[Run]) -> tuple[list[Run], dict[float, float]]:
    """The runs of the rate with the best median on dev (the first of equals), and each rate's median."""
    rates = list(dict.fromkeys(run.rate for run in runs))
    medians = {rate: median(run.dev for run in runs if run.rate == rate) for rate in rates}
    winner = max(rates, key=lambda rate: medians[rate])
    return [run for run in runs if run.rate == winner], medians
