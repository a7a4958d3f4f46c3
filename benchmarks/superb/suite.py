# SPDX-License-Identifier: Apache-2.0
"""SUPERB's tasks one after the other: sweeps, rows of scores, prediction files and the page; it can be cut off.

OUT/superb-TASK/ENCODER-HASH holds a sweep (one for each fold), OUT/store the states, OUT/predictions/ENCODER-HASH what
the chosen head of each task says of test in the leaderboard's form, OUT/scores.jsonl the rows, OUT/index.html the page.
Beside the sweeps stand data.json and mistakes.json, from which the page is drawn again without encoding anew.
"""

import dataclasses
import json
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from ...ssl.config import to_dict
from .. import scores
from ..encoders import RAW, load
from ..finetune import MissingFiles
from ..s3prl.encoder import PREFIX
from ..scores import Row
from . import baselines, corpora
from .ctc.tasks import PhoneConfig
from .entrant import Entrant
from .layouts.quesst14 import Search
from .page import data_card, mistakes, worst
from .page.pictures import page
from .predictions import pack
from .qbe.search import FOUND, SearchConfig
from .qbe.task import row as search_row
from .sweep import Run, choose
from .swept import Fold, Outcome, SweptConfig, departures, submission
from .swept import evaluate as evaluate_one

PREDICTIONS = "predictions"
PUBLISHED = "published"  # the protocol that needs no name

Maker = Callable[[Entrant], Row]
Settings = TypeVar("Settings", SweptConfig, SearchConfig)


def evaluate(
    configs: Mapping[str, SweptConfig | SearchConfig],
    encoder: str,
    seeds: int,
    beside: bool,
    out: Path,
    say: Callable[[str], None],
) -> list[Row]:
    """Runs the tasks that can read the data, and writes everything into `out`.

    Args:
        configs: settings by names such as superb/ks.
        beside: also sweeps the same network at random weights, another for each seed, and filter banks.
    Raises: ValueError as `_readable`, and before anything is trained if the encoder has no twin, if a setting has no
        effect on it, or if `out` has rows on other data; as `_carry_out`.
    """
    if any(config.precision != "fp32" for config in configs.values()) and _is_exact(encoder):
        raise ValueError(f"--precision has no effect on {encoder}, which computes in float32: leave it away")
    if beside and not load(encoder).encoder.config.depth:
        raise ValueError(f"--beside has no effect on {encoder}, which has no weights to draw anew: leave it away")
    makers = _readable(configs, say)
    entrants = [Entrant(encoder, seeds, out, say)]
    if beside:
        entrants += [entrants[0].twins(), entrants[0].raw()]
    for name in makers:
        written = {(entrant.who, _variant(configs[name])) for entrant in entrants}
        scores.need_same_data(out, name, scores.whereabouts(to_dict(configs[name].data)), written)
    return _carry_out(configs, makers, entrants)


def _carry_out(
    configs: Mapping[str, SweptConfig | SearchConfig], makers: Mapping[str, Maker], entrants: Sequence[Entrant]
) -> list[Row]:
    """The rows of each task, written one by one, and the page.

    What only its audio tells against a task leaves it out, if it is one of several, and not those behind it.

    Raises: ValueError, in the end, if a corpus could not be used or there is no row; of one task at once.
    """
    rows: list[Row] = []
    faults: list[str] = []
    out, say = entrants[0].out, entrants[0].say
    for name, make in makers.items():
        made: list[Row] = []
        try:
            for entrant in entrants:
                made.append(make(entrant))
                for line in scores.write(out, made[-1:]):
                    say(line)
        except ValueError as error:
            if len(configs) == 1:
                raise
            say(f"{name}: left out: {error}")
            if not corpora.is_table(Path(configs[name].data.path)):
                faults.append(f"{name}: {error}")
        if made:
            say(scores.table(made))
            rows += made
    if rows:
        page(out)
    if faults or not rows:
        raise ValueError("\n".join(faults) or f"none of {', '.join(makers)} can use its data, as said above")
    return rows


def _is_exact(encoder: str) -> bool:
    """Whether an encoder computes in float32 under autocast too, as raw features and s3prl's upstreams do."""
    return encoder in RAW or encoder.startswith(PREFIX)


def _readable(configs: Mapping[str, SweptConfig | SearchConfig], say: Callable[[str], None]) -> dict[str, Maker]:
    """What makes the rows of each task that can read the data; of several, the others are left out, and named.

    All data are read before anything is trained. No manifest has the columns and splits of all ten tasks, so whatever
    one of several tasks says against it leaves that task out, and so does a `label` that several would take for
    different things; a corpus that is there must be usable.

    Raises: ValueError for a corpus that cannot be used, or if no task can read the data.
    """
    found: dict[str, Maker] = {}
    kinds: dict[str, str] = {}  # of what `label` says
    for name, config in configs.items():
        manifest = corpora.is_table(Path(config.data.path))
        try:
            found[name], kinds[name] = _task(name, config)
        except ValueError as error:
            if len(configs) == 1:
                raise
            if not (manifest or isinstance(error, MissingFiles)):
                raise ValueError(f"{name}: {error}") from error
            say(f"{name}: left out: {error}")
    for name, why in _at_odds({name: kind for name, kind in kinds.items() if kind}).items():
        say(f"{name}: left out: {why}")
        del found[name]
    if not found:
        raise ValueError(f"none of {', '.join(configs)} can be scored on these data, as said above")
    return found


def _at_odds(kinds: Mapping[str, str]) -> dict[str, str]:
    """Why tasks that read one column `label` are left out, if they do not all take it for the same kind of thing."""
    if len(set(kinds.values())) < 2:
        return {}
    others = {name: ", ".join(one for one in kinds if kinds[one] != kind) for name, kind in kinds.items()}
    name_it = f"name the task that it is meant for, as in `pluri evaluate {next(iter(kinds))}`"
    return {name: f"{others[name]} would not take `label` for the {kind}: {name_it}" for name, kind in kinds.items()}


def _task(name: str, config: SweptConfig | SearchConfig) -> tuple[Maker, str]:
    """What makes an encoder's row of a task, and what a manifest's `label` is to it, or "". Its data are read here.

    Raises: ValueError, MissingFiles among them.
    """
    told = scores.whereabouts(to_dict(config.data))  # as it is read now, whatever becomes of it while heads are trained
    if isinstance(config, SearchConfig):
        return partial(_search_row, name, config, corpora.searches(config.data.path), told), ""
    folds = config.folds()
    one_column = corpora.is_table(Path(config.data.path)) and len(folds[0].parts.slots) < 2
    return partial(_row, name, config, folds, told), config.label if one_column else ""


def _search_row(
    name: str, config: SearchConfig, data: tuple[Search, bool], told: dict[str, Any], entrant: Entrant
) -> Row:
    """An encoder's row of QbE; beside its search stand what the data was and the worst false alarms."""
    row = search_row(name, _fitting(config, entrant), data, entrant)
    for chosen in row.chosen:
        _movable(chosen, entrant.out)
    row.chosen[0]["data"] = told
    folder = entrant.out / row.chosen[0]["sweeps"][0]
    if data_card.read(folder) is None:
        data_card.write(folder, data_card.search_card(config.data.path, *data))
    if not entrant.twin_of:
        found = json.loads((folder / FOUND).read_text())
        mistakes.write(folder, [worst.false_alarms(data[0], found["scores"])])
    return row


def _movable(chosen: dict[str, Any], out: Path) -> None:
    """Lets what a row names below `out` start from there, so that it is found from every working directory."""
    chosen["sweeps"] = [str(Path(place).relative_to(out)) for place in chosen["sweeps"]]
    if "predictions" in chosen:
        chosen["predictions"] = str(Path(chosen["predictions"]).relative_to(out))


def _fitting(config: Settings, entrant: Entrant) -> Settings:
    """The settings for an entrant: layers are named unless they are all; filter banks have one, and one precision."""
    layers = config.layers if isinstance(config, SearchConfig) else config.featurizer.layers
    if entrant.floor:
        config, layers = dataclasses.replace(config, precision="fp32"), ()
    elif layers and sorted(set(layers)) == list(range(load(entrant.twin_of or entrant.who).encoder.config.depth + 1)):
        layers = ()
    if isinstance(config, SearchConfig):
        return dataclasses.replace(config, layers=layers)
    layer = 0 if entrant.floor else config.featurizer.layer
    return dataclasses.replace(config, featurizer=dataclasses.replace(config.featurizer, layer=layer, layers=layers))


def _row(name: str, config: SweptConfig, folds: list[Fold], told: dict[str, Any], entrant: Entrant) -> Row:
    """An encoder's row: its sweep, the learning rate that is best on dev, and what its heads say of test."""
    start, config = time.perf_counter(), _fitting(config, entrant)
    out, folder = entrant.out, entrant.folder(name)
    outcomes = [
        evaluate_one(entrant.storing(config, backbone), folds, backbone, seeds, folder, out, entrant.say)
        for backbone, seeds in entrant.backbones()
    ]
    runs = [run for outcome in outcomes for run in outcome.runs]
    won, medians = choose(runs)
    if data_card.read(outcomes[0].folder) is None:
        unit = "phones" if isinstance(config, PhoneConfig) else "words"
        data_card.write(outcomes[0].folder, data_card.card(config.data.path, folds, unit))
    chosen = _chosen(config, folds, outcomes, medians, won[0].rate)
    chosen["notes"] += baselines.notes(entrant.who)
    if not entrant.twin_of:
        official = any(fold.official for fold in folds)
        network = load(entrant.who)
        to = out / PREDICTIONS / (submission(entrant.who, network, config) if official else outcomes[0].folder.name)
        _write(config, folds, outcomes[0], won[0].rate, to)
        chosen["predictions"] = str(to)
    _movable(chosen, out)
    chosen["notes"] += _settled(config, won)
    dev = folds[0].judged == "dev"  # what else judges is the figure itself
    each = [
        {name: value for name, value in run.test.items() if name not in config.settled}
        | ({"dev": run.dev} if dev else {})
        for run in won
    ]
    main = next(iter(won[0].test))
    several = f"mean of {len(folds)} folds, the first: " if len(folds) > 1 else ""
    rules = (f"{several}{folds[0].parts.protocol}; {config.rules(folds[0].judged)}", "test")
    chosen["data"] = told
    seconds = time.perf_counter() - start
    row = Row.of((name, entrant.who), main, each, [chosen], seconds, to_dict(config), rules, [])
    return dataclasses.replace(row, variant=_variant(config))


def _variant(config: SweptConfig | SearchConfig) -> str:
    """What a row says of the protocol beside its encoder."""
    protocol = to_dict(config).get("protocol", PUBLISHED)
    return "" if protocol == PUBLISHED else protocol


def _chosen(
    config: SweptConfig, folds: list[Fold], outcomes: list[Outcome], medians: dict[float, float], rate: float
) -> dict[str, Any]:
    """What a row says of how its figures came about."""
    runs = [run for outcome in outcomes for run in outcome.runs]
    grid = [
        {
            "lr": one,
            "dev": value,
            "each": [{"seed": run.seed, "dev": run.dev, **run.test} for run in runs if run.rate == one],
        }
        for one, value in medians.items()
    ]
    skipped = [note for fold in folds for note in fold.parts.skipped]
    notes = _how_chosen(rate, medians, folds[0].judged)
    if skipped:
        notes.append(f"{len(skipped)} clips of train and dev are missing; the first: {': '.join(skipped[0])}")
    if any(outcome.online for outcome in outcomes):
        why = "as the store would have been too large" if config.store.gigabytes else "as --store.gigabytes is 0"
        notes.append(f"states were computed online, {why}")
    notes += dict.fromkeys(remark for outcome in outcomes for remark in outcome.remarks)
    found: dict[str, Any] = {
        "lr": rate,
        "by": "given" if config.lr is not None else f"median {folds[0].judged}",
        "judged": folds[0].judged,
        "grid": grid,
        "layers": [run.shares for run in runs if run.rate == rate],
        "sweeps": [str(outcome.folder) for outcome in outcomes],
        "bad": max(outcome.bad for outcome in outcomes),
        "changed": departures(config),
        "notes": [*notes, *config.notes(folds)],
    }
    if config.featurizer.layers:
        found["numbers"] = list(config.featurizer.layers)  # of the layers whose shares stand in "layers"
    if len(folds) > 1:
        found["folds"] = {
            name: [run.test for run in each if run.rate == rate] for name, each in outcomes[0].each.items()
        }
    return found


def _how_chosen(rate: float, medians: dict[float, float], judged: str) -> list[str]:
    """Notes on the learning rate that was taken, of those with these medians."""
    if len(medians) == 1:
        return [f"learning rate {rate:g}"]
    level = [one for one, value in medians.items() if value == medians[rate]]
    several = (
        f"the first of {len(level)} that are level at the best median {judged} of {len(medians)}: "
        f"{', '.join(f'{one:g}' for one in level)}"
    )
    best = f"the best of {len(medians)} by median {judged}"
    notes = [f"learning rate {rate:g}, {several if len(level) > 1 else best}"]
    ends = {max(medians), min(medians)}
    if len(medians) > 2 and rate in ends and not ends <= set(level):  # level from end to end, nothing lies beyond
        notes.append(f"{rate:g} is the end of the grid: a --grid that reaches beyond it may do better")
    return notes


def _settled(config: SweptConfig, won: list[Run]) -> list[str]:
    """A note on the settings that were chosen for each seed's head."""
    if not config.settled:
        return []
    each = [f"seed {run.seed}: {', '.join(f'{name} {run.test[name]:g}' for name in config.settled)}" for run in won]
    return ["; ".join(each)]


def _write(config: SweptConfig, folds: list[Fold], outcome: Outcome, rate: float, to: Path) -> None:
    """What the winner's best seed says of test, and where it is wrong."""
    best = max((run for run in outcome.runs if run.rate == rate), key=lambda run: run.dev)
    for fold in folds:
        config.write(fold, outcome.folder / fold.name, best, to)
    found = [worst.find(config, fold, outcome.folder / fold.name, best) for fold in folds]
    mistakes.write(outcome.folder, [one for one in found if one is not None])
    if any(fold.official for fold in folds) and (to / "predict").is_dir():
        pack(to)
