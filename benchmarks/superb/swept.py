# SPDX-License-Identifier: Apache-2.0
"""A SUPERB task on a frozen encoder: settings, states, sweep over the learning rates and seeds, and what came of it."""

import dataclasses
import hashlib
import itertools
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

from ...ssl.config import Config, to_dict
from ...ssl.encoder import Backbone
from ...ssl.parallel import find_device
from ..files import write_json
from .clips import Clips
from .featurizer import FeaturizerConfig, hop
from .stacked import LATE, Epsilon
from .states import Online, Precision, Reading, States
from .store import Beside, StoreConfig, open_states, remove
from .sweep import RESULT, RULES, Plan, Probe, Run, read_runs, state_bytes, sweep
from .utterances import Parts

GRID = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)  # SUPERB: five values on a log grid; their ends are not published
LEFT_OUT = "left_out.json"
# Settings that may differ while a score is SUPERB's: where data and states lie, and what computes.
_FREE = ("data", "store", "device")
# Files that are SUPERB's by their names, wherever they lie (s3prl@ec8064b, downstream/docs/superb.md, ASR with KenLM).
_FILES = {"beam.lm": ("4-gram.arpa", "4-gram.arpa.gz"), "beam.words": ("librispeech_lexicon.lst",)}


def need_positive(values: Mapping[str, float]) -> None:
    """Raises ValueError for the first value that is not a finite number above 0, by its name."""
    for name, value in values.items():
        if not 0 < value < math.inf:  # which no NaN is
            raise ValueError(f"{name} must be above 0, and finite, not {value:g}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CorpusConfig(Config):
    """Where a task's data are."""

    path: str = ""  # the corpus's folder, whose kind its files tell, or a manifest (.tsv, .csv, .jsonl)


class Fold(NamedTuple):
    """One split of a task's data; most tasks have one."""

    name: str  # "" where there is only one
    parts: Parts  # measured
    official: bool  # whether it is the corpus that the leaderboard scores
    judged: str = "dev"  # the part by which states of heads and learning rates are chosen


class Prepared(ABC):
    """A fold whose clips are known, until the encoder has read them."""

    key: str = ""  # changes with what else decides a sweep: neither settings nor data, such as a file's content

    @abstractmethod
    def probe(self, states: States, reading: Reading, plan: Plan) -> Probe:
        """What the sweep trains. Raises ValueError if clips that are needed cannot be read."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SweptConfig(Config, ABC):
    """Settings of a task for whose heads learning rates are swept. Defaults: SUPERB's."""

    pooled: ClassVar[bool]  # whether heads need no more than the mean of each clip's frames
    gain: ClassVar[float] = 0.0  # decibels
    decay: ClassVar[float] = 0.0  # of heads' weights: above 0 is AdamW
    epsilon: ClassVar[Epsilon] = LATE
    settled: ClassVar[tuple[str, ...]] = ()  # settings chosen for each head, among what it says of test
    label: ClassVar[str] = ""  # what the column of that name says in a manifest, if the task reads it

    data: CorpusConfig = CorpusConfig()
    featurizer: FeaturizerConfig = FeaturizerConfig()
    store: StoreConfig = StoreConfig()
    grid: tuple[float, ...] = GRID  # learning rates that are tried
    lr: float | None = None  # this one alone, and no sweep
    steps: int = 200_000
    evaluations: int = 40  # of dev, evenly over the steps: every 5000
    batch: int = 32  # utterances
    clip: float = 1.0  # greatest norm of a head's gradient
    precision: Precision = "fp32"  # of the encoder; heads are float32
    device: Literal["auto", "cpu", "cuda"] = "auto"

    def __post_init__(self) -> None:
        if self.lr is None and len(set(self.grid)) < 2:
            raise ValueError(f"a grid of {len(set(self.grid))} learning rate(s) is no sweep: name one by --lr")
        need_positive({f"learning rate {rate:g}": rate for rate in self.rates()})
        if len({f"{rate:g}" for rate in self.rates()}) < len(self.rates()):
            raise ValueError(f"learning rates are told apart by six digits: --grid {' '.join(map(repr, self.rates()))}")
        if self.lr is not None and self.grid != _defaults(self)["grid"]:
            raise ValueError("a grid has no effect beside --lr, which is tried alone: leave --grid or --lr away")
        need_positive({name: getattr(self, name) for name in ("steps", "evaluations", "batch", "clip")})

    def rates(self) -> tuple[float, ...]:
        """The learning rates that are tried, largest first."""
        return (self.lr,) if self.lr is not None else tuple(sorted(set(self.grid), reverse=True))

    def plan(self, seeds: Sequence[int]) -> Plan:
        """How the heads are trained."""
        optimiser = self.decay, self.epsilon
        return Plan(self.rates(), tuple(seeds), self.steps, self.evaluations, self.clip, self.device, *optimiser)

    def rules(self, judged: str = "dev") -> str:
        """One line on how heads are trained and chosen, to be printed beside every score."""
        published = _defaults(self)["steps"]
        changed = "" if self.steps == published else f" (published: {published})"
        how = f"lr {self.lr:g} as given, no sweep" if self.lr is not None else f"lr of {len(self.rates())} by {judged}"
        others = [f"{name} {words}" for name, words in departures(self).items() if name not in ("steps", "lr")]
        rest = f"; not as published: {', '.join(others)}" if others else ""
        steps = f"{self.steps} steps of {self.batch}{changed}"
        return f"frozen, {self.featurizer.words()}; {steps}, best of {judged}; {how}{rest}"

    @abstractmethod
    def folds(self) -> list[Fold]:
        """The data. Raises finetune.MissingFiles if they are not there, ValueError if they cannot be used."""

    @abstractmethod
    def notes(self, folds: list[Fold]) -> list[str]:
        """What is wrong with the published protocol, or differs from it here; one line each."""

    @abstractmethod
    def prepare(self, fold: Fold, clips: Clips) -> Prepared:
        """A fold, whose clips are added to those that the encoder has to read."""

    @abstractmethod
    def write(self, fold: Fold, folder: Path, run: Run, to: Path) -> None:
        """Writes what a run says of the fold's test part, from the sweep's folder, in the leaderboard's form."""


def departures(config: Config) -> dict[str, str]:
    """The settings of a task that are not the published ones: of each its value and, in brackets, the published."""
    words = {None: "a sweep", (): "all"}  # what a default that is no value stands for
    return {
        name: f"{words.get(one, one)} ({words.get(other, other)})" for name, (one, other) in _changed(config).items()
    }


def _changed(config: Config) -> dict[str, tuple[Any, Any]]:
    """The settings of a task that are not the published ones: their values and the published."""
    published = _flat(type(config)())
    found = {name: (value, published[name]) for name, value in _flat(config).items() if value != published[name]}
    if "grid" in found:
        tried, _ = found.pop("grid")
        if not is_grid(tried):
            found["grid"] = tried, f"{len(GRID)} evenly on a log scale"
    for name, known in _FILES.items():
        if name in found and (file := Path(found.pop(name)[0]).name) not in known:
            found[name] = file, known[0]
    return found


def is_grid(rates: Sequence[float]) -> bool:
    """Whether learning rates are as many as SUPERB allows, evenly on a log scale; where they lie is not published."""
    ordered = sorted(set(rates))
    steps = [math.log(high / low) for low, high in itertools.pairwise(ordered)]
    return len(ordered) == len(GRID) and max(steps) - min(steps) < 1e-3


def _defaults(config: Config) -> dict[str, Any]:
    return {field.name: field.default for field in dataclasses.fields(config)}


def _flat(config: Config, before: str = "") -> dict[str, Any]:
    """Settings by names such as featurizer.kind."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        name, value = f"{before}{field.name}", config.__dict__[field.name]
        if name not in _FREE:
            found |= _flat(value, f"{name}.") if isinstance(value, Config) else {name: value}
    return found


class Outcome(NamedTuple):
    """What came of one encoder on one task."""

    runs: list[Run]  # means over the folds
    each: dict[str, list[Run]]  # of every fold
    folder: Path  # a folder below for every fold
    bad: int  # clips that are missing or cannot be read
    online: bool
    remarks: list[str]  # of its probes


def evaluate(
    config: SweptConfig,
    folds: list[Fold],
    backbone: Backbone,
    seeds: Sequence[int],
    folder: Path,
    out: Path,
    say: Callable[[str], None],
) -> Outcome:
    """The sweep of every fold; finished ones are read.

    Args:
        folder: for sweeps; the one of these settings and this encoder lies below. out: the store lies below.
    """
    reading = Reading.of(backbone.to(find_device(config.device)), config.featurizer, config.pooled, config.precision)
    clips = Clips(config.gain, hop(backbone.front_end))
    prepared = [config.prepare(fold, clips) for fold in folds]
    truth = [_truth(fold.parts) + one.key for fold, one in zip(folds, prepared, strict=True)]
    settings = {name: value for name, value in to_dict(config).items() if name not in ("data", "store", "device")}
    about = json.dumps([RULES, reading.key(), clips.hash(), settings, config.store.dtype, list(seeds), truth])
    folder = folder.with_name(f"{folder.name}-{hashlib.blake2b(about.encode(), digest_size=4).hexdigest()}")
    plan = config.plan(seeds)
    skipped = {place: why for fold in folds for place, why in fold.parts.skipped}
    if not all((folder / fold.name / RESULT).is_file() for fold in folds):
        beside = _beside(prepared, Online(clips, reading, config.store.seconds), reading, plan, folder)
        states = open_states(config.store, out, clips, reading, say, beside)
        folder.mkdir(parents=True, exist_ok=True)
        if isinstance(states, Online):
            states.look(config.store.threads)
        bad = skipped | {clips.name(number): why for number, why in states.bad.items()}
        probes = [one.probe(states, reading, plan) for one in prepared]
        remarks = list(dict.fromkeys(remark for probe in probes for remark in probe.remarks))
        write_json(folder / LEFT_OUT, {"bad": bad, "online": isinstance(states, Online), "remarks": remarks})
        for remark in remarks:
            say(remark)
        for fold, probe in zip(folds, probes, strict=True):
            sweep(probe, plan, folder / fold.name, say)
        if not config.store.keep:
            remove(states)
    each = {fold.name: read_runs(folder / fold.name) for fold in folds}
    kept = json.loads((folder / LEFT_OUT).read_text())
    bad = len(kept["bad"] | skipped)
    return Outcome(mean(list(each.values())), each, folder, bad, kept["online"], kept["remarks"])


def _beside(prepared: Sequence[Prepared], states: States, reading: Reading, plan: Plan, folder: Path) -> Beside:
    """What the sweep itself will keep, told from the heads of one seed; of the states nothing is read."""
    one_seed = plan._replace(seeds=plan.seeds[:1])
    sizes = [state_bytes(one.probe(states, reading, one_seed).heads) for one in prepared]
    return Beside(folder, max(sizes) * len(plan.seeds))


def _truth(parts: Parts) -> str:
    """Changes with what the utterances are said to hold, and with how they are split."""
    told = [[(one.name, *one[2:]) for one in part] for part in (parts.train, parts.dev, parts.test)]  # without paths
    words = repr([told, parts.slots, parts.trials, parts.dev_trials])
    return hashlib.blake2b(words.encode(), digest_size=16).hexdigest()


def folder_name(who: str) -> str:
    """What an encoder's folders are called."""
    return who.strip("/").replace("/", "-").replace(":", "-").replace(" ", "-")[-40:]


def submission(who: str, backbone: Backbone, config: Config) -> str:
    """What the folder of an encoder's predictions for the leaderboard is called.

    Tasks share it, as they are handed in together, unless the encoder's weights differ, or what departs from the
    published settings: then an older run's predictions would be packed among the others.
    """
    changed = {name: value for name, (value, _) in _changed(config).items()}
    about = [Reading.of(backbone, FeaturizerConfig(), False, "fp32").key(), changed]
    return f"{folder_name(who)}-{hashlib.blake2b(json.dumps(about).encode(), digest_size=4).hexdigest()}"


def mean(folds: list[list[Run]]) -> list[Run]:
    """Each run with the mean of the folds' figures; curves and shares are the first fold's."""
    out = []
    for runs in zip(*folds, strict=True):
        dev = sum(run.dev for run in runs) / len(runs)
        test = {name: sum(run.test[name] for run in runs) / len(runs) for name in runs[0].test}
        shares = [sum(column) / len(runs) for column in zip(*(run.shares for run in runs), strict=True)]
        out.append(runs[0]._replace(dev=dev, test=test, shares=shares))
    return out
