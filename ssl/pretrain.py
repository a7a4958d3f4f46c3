# SPDX-License-Identifier: Apache-2.0
"""A recipe carried out from its data to its last checkpoint, in a run directory that it can be taken up again from."""

import dataclasses
from pathlib import Path

import torch

from . import checkpoint, draw, parallel
from .data import Dataset
from .encoder import Backbone
from .recipe import FILE, Recipe
from .train import Outcome, fit

ASSETS, CACHE = "assets", "cache"


def pretrain(recipe: Recipe, run: Path, init: Backbone | None = None) -> Outcome:
    """Pre-trains, or goes on if `run` holds a checkpoint.

    Args:
        recipe: for a run directory that has been begun, its own recipe (`Recipe.load`), perhaps with more steps.
        run: folder for everything that the run writes, made once its data are found.
        init: a backbone whose weights the run starts from.
    Raises: ValueError for settings or data that cannot be used; stopped.Stopped.
    """
    if not (run / FILE).is_file() and checkpoint.latest(run) is not None:
        raise ValueError(f"{run} holds checkpoints but no {FILE}: choose another --out")
    with parallel.FirstRankFirst():
        data = recipe.data.build("train", run / CACHE)
        held_out = recipe.data.build("held_out", run / CACHE) if recipe.data.held_out > 0 else None
        assets = _assets(data, run)
    if held_out is not None and len(held_out.epoch(0).records) == 0:
        held_out = None
    recipe = dataclasses.replace(recipe, front_end=recipe.front_end.fitted(data))
    torch.manual_seed(draw.key(recipe.seed, "weights") & (2**63 - 1))
    objective = recipe.build(assets)
    if init is not None and checkpoint.latest(run) is None:
        _copy(init, objective.backbone)
    if parallel.rank() == 0:
        recipe.save(run)
    return fit(objective, data, held_out, recipe.training, run)


def _assets(data: Dataset, run: Path) -> Path:
    """The run's folder of assets, which the data fill (a tokenizer) before the front end is built from it.

    One rank alone writes: another that wrote the same again would do so under the eyes of those that already read.
    """
    folder = run / ASSETS
    folder.mkdir(parents=True, exist_ok=True)
    if parallel.rank() == 0:
        data.save_assets(folder)
    return folder


def _copy(source: Backbone, target: Backbone) -> None:
    """Weights of one backbone into another. Raises ValueError naming the first that does not fit."""
    theirs, ours = source.state_dict(), target.state_dict()
    for name, tensor in ours.items():
        if name not in theirs or theirs[name].shape != tensor.shape:
            has = tuple(theirs[name].shape) if name in theirs else "nothing"
            raise ValueError(f"init does not fit the recipe: {name} is {tuple(tensor.shape)} here and {has} there")
    target.load_state_dict(theirs)


def load_backbone(run: Path) -> Backbone:
    """The backbone of a run's newest checkpoint, in eval mode, float32, on the CPU.

    Raises: ValueError if `run` is no run directory, or has no checkpoint yet.
    """
    recipe = Recipe.load(run)
    newest = checkpoint.latest(run)
    if newest is None:
        raise ValueError(f"{run} has no finished checkpoint yet")
    backbone = recipe.backbone(run / ASSETS)
    weights = checkpoint.load_weights(newest)
    prefix = "backbone."
    backbone.load_state_dict({n.removeprefix(prefix): t for n, t in weights.items() if n.startswith(prefix)})
    return backbone.eval()
