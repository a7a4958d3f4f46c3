# SPDX-License-Identifier: Apache-2.0
"""Fine-tuning over a grid of settings and several seeds: every finished run is on disk, so nothing is done twice.

FOLDER/SETTING_seedN/ holds a run's metrics.jsonl, what it said of the dev split (dev.json) and its figures (run.json,
written last). FOLDER/best.safetensors is the network that did best on the dev split.
"""

import copy
import dataclasses
import hashlib
import json
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self, runtime_checkable

import torch

from ..ssl import checkpoint
from ..ssl.config import from_dict, to_dict
from ..ssl.data import Dataset
from ..ssl.encoder import Backbone
from ..ssl.parallel import find_device
from ..ssl.stopped import Diverged
from .encoders import Start, fingerprint
from .files import write_json
from .finetune import Setting, TunedConfig, fine_tune, predict
from .task import Supervised, Task

RUN, DEV, BEST, BEST_OF, GUARD = "run.json", "dev.json", "best.safetensors", "best.json", "settings.json"


class Run(NamedTuple):
    """One finished run."""

    setting: Setting
    seed: int
    dev: dict[str, float]
    test: dict[str, float]  # empty where the test split has no labels
    main: str
    failed: str  # how it came to nothing; empty if it did not
    steps: int
    seconds: float  # of the process that finished it; an earlier one may have been cut off

    @classmethod
    def load(cls, path: Path) -> Self:
        """From a run's run.json."""
        fields = json.loads(path.read_text())
        return cls(from_dict(fields.pop("setting")), **fields)

    def save(self, path: Path) -> None:
        """Writes run.json, whole or not at all."""
        write_json(path, {**self._asdict(), "setting": to_dict(self.setting)})


class Grid:
    """All runs of one task from one starting point.

    Args:
        starts: the network of a seed, anew at each call: the same pre-trained one, or a random twin.
        folder: where runs are kept, and found again.
    Raises: ValueError if `folder` holds runs of another network or other settings.
    """

    def __init__(self, config: TunedConfig, starts: Callable[[int], Start], folder: Path) -> None:
        self.config, self.starts, self.folder = config, starts, folder
        self.first = starts(0)
        self.task: Task = config.task(self.first)
        self.later: set[str] = set()  # test parts that came, or changed, after the first runs: only `best` knows them
        self._check(folder / GUARD)

    def _check(self, path: Path) -> None:
        splits = self.task.data(self.first.backbone)
        tests = {f"test {name}": data for name, data in splits.test.items()}
        fixed = {"train": splits.train, **splits.dev, **({} if self.config.tests_later else tests)}
        about = {"encoder": fingerprint(self.first), "settings": self.config.meant(), "data": data_hash(fixed)}
        about = json.loads(json.dumps(about))
        tested = {name: data_hash({name: data}) for name, data in splits.test.items()}
        if not path.is_file():
            write_json(path, {**about, "tested": tested})
            return
        known = json.loads(path.read_text())
        self.later = {name for name, mine in tested.items() if known.get("tested", {}).get(name) != mine}
        if wrong := [name for name in about if known.get(name) != about[name]]:
            if "settings" in wrong:
                wrong[wrong.index("settings")] += f" ({_differing(known['settings'], about['settings'])})"
            raise ValueError(f"{path.parent} holds runs of other {' and other '.join(wrong)}: choose another --out")

    def run(self, seeds: int) -> list[Run]:
        """All runs; those that are finished are read, not repeated."""
        return [self._one(setting, seed) for setting in self.config.settings() for seed in range(seeds)]

    def place(self, setting: Setting, seed: int) -> Path:
        """A run's folder."""
        return self.folder / f"{setting.name()}_seed{seed}"

    def _one(self, setting: Setting, seed: int) -> Run:
        place = self.place(setting, seed)
        if (place / RUN).is_file():
            checkpoint.prune(place, self.config.loop.keep)
            return Run.load(place / RUN)
        place.mkdir(parents=True, exist_ok=True)
        start = time.perf_counter()
        backbone = copy.deepcopy(self.starts(seed).backbone)  # training changes it in place
        torch.manual_seed(seed)
        model = Supervised(self.task, backbone)
        failed = ""
        # The last checkpoint stays until everything is told of the run, which may be cut off meanwhile.
        loop = dataclasses.replace(self.config.loop, keep=max(1, self.config.loop.keep))
        try:
            fine_tune(model, setting, seed, loop, place)
        except Diverged as diverged:
            failed = str(diverged)
        figures, main, idle = self._score(model, place)
        failed = failed or idle
        steps = setting.training(len(self.task.data(backbone).train.epoch(0).records), seed, self.config.loop).steps
        dev, test = figures
        run = Run(setting, seed, dev, test, main, failed, steps, round(time.perf_counter() - start, 2))
        self._keep_best(model, run, place.name)
        run.save(place / RUN)
        checkpoint.prune(place, self.config.loop.keep)
        return run

    def _score(self, model: Supervised, place: Path) -> tuple[tuple[dict[str, float], dict[str, float]], str, str]:
        """Figures of the dev and the test parts, the main one's name, and how the predictions show a failed run."""
        splits = self.task.data(model.backbone)
        # First, since a task may choose a threshold on what is said of the dev split.
        nothing = self.task.score(splits.dev[""], self.task.idle(splits.dev[""])).figures
        main, idle, out = "", "", []
        for parts in (splits.dev, splits.test):
            figures: dict[str, float] = {}
            for name, data in parts.items():
                said = predict(model, data, self.config.loop.precision)
                answers = self.task.answers(data, list(said.values()))
                score = self.task.score(data, answers)
                figures |= {f"{key}_{name}" if name else key: value for key, value in score.figures.items()}
                if parts is splits.dev and not name:
                    main = score.main
                    known = {"predictions": answers, "references": self.task.references(data)}
                    write_json(place / DEV, known)
                    if not (value := score.figures[main]) > nothing[main]:
                        idle = (
                            f"{main} {value:.4f} on the dev split, where one answer for all gives {nothing[main]:.4f}"
                        )
            out.append(figures)
        return (out[0], out[1]), main, idle

    def _keep_best(self, model: Supervised, run: Run, name: str) -> None:
        """Writes the network if no earlier run did better on the dev split; one that failed gives way to any other."""
        from safetensors.torch import save_file

        path = self.folder / BEST_OF
        mine = (not run.failed, run.dev[run.main])
        if path.is_file():
            best = json.loads(path.read_text())
            if best["run"] == name or (best["sound"], best["dev"]) >= mine:
                return
        weights = {key: value.detach().cpu().clone().contiguous() for key, value in model.state_dict().items()}
        beside = self.folder / f".{BEST}.partial"
        save_file(weights, beside)
        beside.rename(self.folder / BEST)
        write_json(path, {"run": name, "sound": mine[0], "dev": mine[1]})

    def kept(self) -> str:
        """The name of the run that did best on the dev split, whose network is kept."""
        return json.loads((self.folder / BEST_OF).read_text())["run"]

    def best(self) -> Supervised:
        """The network that did best on the dev split, on the device that runs are on."""
        from safetensors.torch import load_file

        model = Supervised(self.task, copy.deepcopy(self.first.backbone))
        model.load_state_dict(load_file(self.folder / BEST))
        return model.to(find_device(self.config.loop.device)).eval()


def _differing(known: Mapping[str, Any], mine: Mapping[str, Any]) -> str:
    """The names of the settings that are not the same, in words."""
    return ", ".join(name for name in {**known, **mine} if known.get(name) != mine.get(name))


def failures(runs: list[Run]) -> list[str]:
    """Which runs came to nothing, and how."""
    return [f"{run.setting.name()}, seed {run.seed}: {run.failed}" for run in runs if run.failed]


def median(runs: list[Run]) -> float:
    """The median of the runs' main figure on the dev split."""
    return statistics.median(run.dev[run.main] for run in runs)


def choose(runs: list[Run]) -> tuple[list[Run], list[dict[str, Any]]]:
    """The runs of the setting with the best median on the dev split (the first of equals), and all medians."""
    settings = list(dict.fromkeys(run.setting for run in runs))
    groups = [[run for run in runs if run.setting == setting] for setting in settings]
    medians = [median(group) for group in groups]
    grid = [
        {"setting": s.name(), "dev": m, "failed": sum(bool(run.failed) for run in g)}
        for s, m, g in zip(settings, medians, groups, strict=True)
    ]
    return groups[medians.index(max(medians))], grid


def backbone_of(folder: Path, backbone: Backbone) -> Backbone:
    """A copy of `backbone` with the weights of the best network of another task's folder.

    Raises: ValueError if there is none yet.
    """
    from safetensors.torch import load_file

    if not (folder / BEST).is_file():
        raise ValueError(f"{folder} has no {BEST}: run that task first")
    prefix = "backbone."
    weights = {n.removeprefix(prefix): x for n, x in load_file(folder / BEST).items() if n.startswith(prefix)}
    out = copy.deepcopy(backbone)
    out.load_state_dict(weights)
    return out


@runtime_checkable
class Sourced(Protocol):
    """Data that can tell in full what they were made of."""

    def source(self) -> Iterable[object]:
        """Texts, labels and answers, one example after the other, each with a `repr` that leaves nothing out."""
        ...


def data_hash(parts: Mapping[str, Dataset]) -> str:
    """A hash of data sets: all that they were made of, and, as the tokenizer and cuts change them, a thousand items."""
    digest = hashlib.blake2b(digest_size=16)
    for name, data in parts.items():
        records, sizes = data.epoch(0)
        digest.update(f"{name} {len(records)}".encode() + sizes.tobytes())
        assert isinstance(data, Sourced)
        for example in data.source():
            digest.update(repr(example).encode("utf-8", "surrogatepass"))
        for record in records[:: max(1, len(records) // 1000)]:
            item = data.load(record, 0)
            for tensor in (item.inputs, *item.extras.values()):
                digest.update(tensor.reshape(-1).numpy().tobytes())
    return digest.hexdigest()
