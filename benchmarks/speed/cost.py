# SPDX-License-Identifier: Apache-2.0
"""`pluri bench cost`: what a step costs over length, batch, depth and width, and what whole runs would cost.

The curves are BERT's step, text/bert without next sentence prediction, with one of the four changed at a time; each
point is measured in a process of its own, so that its memory is its own, too.
"""

import argparse
import dataclasses
import functools
import json
import os
import statistics
from collections.abc import Sequence
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ... import recipes
from ...speech.corpus import AudioDataConfig
from ...ssl import draw
from ...ssl.data import Item, collate
from ...ssl.monitor import matmul_peak
from ...ssl.objectives.bert import BertConfig
from ...ssl.parallel import find_device
from ...ssl.recipe import Recipe
from ...text.corpus import TextDataConfig
from ...text.recipes import bert
from .flops import step_flops
from .side import Remote, Setting, Side, Work, train_step

BASE = {"length": 128, "batch": 16, "depth": 12, "width": 768}
CURVES = {"length": (32, 64, 128, 256, 512), "batch": (1, 4, 16, 64), "depth": (2, 6, 12, 24), "width": (192, 384, 768)}
SMALL_BASE = {"length": 64, "batch": 8, "depth": 2, "width": 128}
SMALL_CURVES = {"length": (32, 64), "batch": (8, 32), "depth": (2, 4), "width": (128,)}
RUNS = ("text/bert", "speech/mockingjay", "speech/wav2vec2", "vision/byol", "vision/vicreg")
STEPS, WARMUP = 3, 2


def point_name(point: dict[str, int]) -> str:
    """A point as the name of a work, such as bert-128-16-12-768."""
    return "bert-" + "-".join(str(point[axis]) for axis in BASE)


def work(name: str) -> Work:
    """The work of a point's name."""
    point = dict(zip(BASE, map(int, name.split("-")[1:]), strict=True))
    return Work(
        name, "text", "", "tokens", (), functools.partial(_side, point=point), functools.partial(_side, point=point)
    )


def _side(setting: Setting, point: dict[str, int]) -> Side:
    """A training step on rows of exactly `length` tokens."""
    width, rows, length = point["width"], point["batch"], point["length"]
    recipe = bert()
    encoder = dataclasses.replace(
        recipe.encoder, depth=point["depth"], width=width, heads=max(1, width // 64), hidden=4 * width
    )
    front_end = dataclasses.replace(recipe.front_end, width=width)
    objective_config = BertConfig(next_sentence=False)
    recipe = dataclasses.replace(recipe, front_end=front_end, encoder=encoder, objective=objective_config)
    objective = recipe.build().to(setting.device).train()
    ids = torch.randint(1000, 30000, (rows, length), generator=torch.Generator().manual_seed(0))
    batch = collate([Item(row) for row in ids], [draw.key(0, row) for row in range(rows)], ragged=True)
    batch = batch.to(setting.device)

    def loss(number: int) -> Tensor:
        return objective(batch)["loss"]

    step = train_step(loss, objective, recipe.optimizer.build(objective), 1.0, setting)
    flops = step_flops(recipe, [length] * rows)
    return Side(step, [float(rows * length)] * setting.steps, [flops] * setting.steps)


def measure(point: dict[str, int], setting: Setting) -> dict[str, Any]:
    """Tokens a second, MFU and memory of one point. Raises RuntimeError where memory ends, or a step fails."""
    side = Remote(point_name(point), "ours", setting)
    try:
        side.ready()
        times = [side.seconds(0) for _ in range(WARMUP + STEPS)][WARMUP:]
        peak, memory = side.peak(), side.memory()
    finally:
        side.close()
    seconds = statistics.median(times)
    mfu = side.flops[0] / seconds / peak
    return {**point, "tokens": side.sizes[0] / seconds, "seconds": seconds, "mfu": mfu, "memory": memory}


def run_flops(recipe: Recipe) -> float:
    """Of a whole run on rows of one length: all tokens that an item may have, 12 s of speech, an image."""
    data = recipe.data
    if isinstance(data, TextDataConfig):
        length, size = data.longest, float(data.longest)
    elif isinstance(data, AudioDataConfig):
        size = min(12.0, data.longest)
        length = int(size * 16_000)
    else:
        length, size = 1, 1.0
    return recipe.steps * recipe.batch / size * step_flops(recipe, [length])


def tokens_that_fit(curve: Sequence[dict[str, Any]], memory: float) -> tuple[float, float]:
    """GiB for each 1,000 tokens of a step, by a line through the curve over batch, and how many `memory` GiB hold."""
    tokens = [point["length"] * point["batch"] for point in curve]
    slope, start = np.polyfit(tokens, [point["memory"] for point in curve], 1)
    return 1000 * float(slope), float((memory - start) / slope)


def _memory(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory / 2**30
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def _curves(setting: Setting) -> dict[str, list[dict[str, Any]]]:
    base, curves = (SMALL_BASE, SMALL_CURVES) if setting.small else (BASE, CURVES)
    print(f"{'length':>7}{'batch':>7}{'depth':>7}{'width':>7}{'tokens/s':>11}{'MFU':>7}{'GiB':>7}")
    seen: dict[str, dict[str, Any]] = {}
    found: dict[str, list[dict[str, Any]]] = {}
    for axis, values in curves.items():
        found[axis] = []
        for value in values:
            point = {**base, axis: value}
            name = point_name(point)
            try:
                row = seen[name] = seen.get(name) or measure(point, setting)
            except RuntimeError as error:
                print(
                    f"{point['length']:>7}{point['batch']:>7}{point['depth']:>7}{point['width']:>7}  {error}",
                    flush=True,
                )
                continue
            found[axis].append(row)
            print(
                f"{row['length']:>7}{row['batch']:>7}{row['depth']:>7}{row['width']:>7}{row['tokens']:>11,.0f}"
                f"{row['mfu']:>7.0%}{row['memory']:>7.1f}",
                flush=True,
            )
    return found


def _draw(curves: dict[str, list[dict[str, Any]]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5.5), layout="constrained")
    panels = figure.subplots(2, len(curves))
    for column, (axis, rows) in enumerate(curves.items()):
        for row, (what, label) in enumerate((("tokens", "tokens a second"), ("memory", "GiB"))):
            panel = panels[row][column]
            panel.plot([point[axis] for point in rows], [point[what] for point in rows], marker="o")
            panel.set(xscale="log", xlabel=axis, ylim=(0, None), ylabel=label if column == 0 else "")
            panel.set_xticks([point[axis] for point in rows], [str(point[axis]) for point in rows])
            panel.minorticks_off()
    figure.savefig(path, dpi=100)


def main(words: list[str]) -> None:
    """`pluri bench cost`."""
    parser = argparse.ArgumentParser(prog="pluri bench cost", description=__doc__, allow_abbrev=False)
    parser.add_argument("--quick", action="store_true", help="two small networks")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="bf16")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--out", type=Path, default=Path("pluri-bench"), help="folder for cost.json and cost.png")
    known = parser.parse_args(words)
    setting = Setting(find_device(known.device), known.precision, known.quick, 1)
    curves = _curves(setting)
    slope, most = tokens_that_fit(curves["batch"], _memory(setting.device)) if len(curves["batch"]) > 1 else (nan, nan)
    print(f"{slope:.2f} GiB for each 1,000 tokens of a step; memory ends at about {most:,.0f} tokens")
    best = max((row for rows in curves.values() for row in rows), key=lambda row: row["mfu"])
    speed = best["mfu"] * matmul_peak(setting.device, setting.dtype)  # FLOP/s
    print(f"whole runs at the best MFU above, {best['mfu']:.0%}, {speed / 1e12:.2f} TFLOP/s, on one device and on 64")
    runs = {name: run_flops(recipes.find(name)) for name in RUNS}
    for name, flops in runs.items():
        days = flops / speed / 86_400
        print(f"{name:<20}{flops / 1e18:>10.1f} EFLOP{days:>14,.1f} days{days / 64:>12,.1f} days")
    known.out.mkdir(parents=True, exist_ok=True)
    content = {"setting": str(setting), "curves": curves, "gib_per_1000_tokens": slope, "runs": runs, "speed": speed}
    (known.out / "cost.json").write_text(json.dumps(content, indent=1) + "\n")
    _draw(curves, known.out / "cost.png")
