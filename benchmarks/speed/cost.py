# SPDX-License-Identifier: Apache-2.0
"""`pluri bench cost`: what a step costs over length, batch, depth and width, and what whole runs would cost.

The curves are BERT's step, text/bert without next sentence prediction, with one of the four changed at a time; each
point is measured in a process of its own, so that its memory is its own, too. On a GPU batches are larger, and the
curve over them goes on until one does not fit. MFU is of the best peak that the whole run has seen.
"""

import argparse
import dataclasses
import functools
import json
import math
import os
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ... import recipes
from ...speech.corpus import AudioDataConfig
from ...ssl import draw
from ...ssl.data import Item, collate
from ...ssl.objectives.bert import BertConfig
from ...ssl.parallel import find_device
from ...ssl.recipe import Recipe
from ...text.corpus import TextDataConfig
from ...text.recipes import bert
from .flops import step_flops
from .side import Remote, Setting, Side, Work, objective_step, sized

BASE = {"length": 128, "batch": 16, "depth": 12, "width": 768}
CURVES = {
    "length": (32, 64, 128, 256, 512),
    "batch": (1, 4, 16, 64),
    "depth": (2, 6, 12, 24),
    "width": (192, 384, 768, 1024),
}
SMALL_BASE = {"length": 64, "batch": 8, "depth": 2, "width": 128}
SMALL_CURVES = {"length": (32, 64), "batch": (8, 32), "depth": (2, 4), "width": (128,)}
# The base recipes, and the work of `pluri bench` that is measured for each: the same network, but for images, where the
# work is a ViT-Tiny at 32 pixels.
RUNS = {
    "text/bert": "bert_512",
    "speech/mockingjay": "mockingjay",
    "speech/wav2vec2": "wav2vec2",
    "vision/byol": "byol",
    "vision/vicreg": "vicreg",
}
STEPS, WARMUP = 3, 2
FILE = "cost.json"


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
    recipe = dataclasses.replace(bert(), objective=BertConfig(next_sentence=False))
    recipe = sized(recipe, point["depth"], width, max(1, width // 64))
    objective = recipe.build().to(setting.device).train()
    ids = torch.randint(1000, 30000, (rows, length), generator=torch.Generator().manual_seed(0))
    batch = collate([Item(row) for row in ids], [draw.key(0, row) for row in range(rows)], ragged=True)
    batch = batch.to(setting.device)

    def loss(number: int) -> Tensor:
        return objective(batch)["loss"]

    step = objective_step(loss, objective, recipe.optimizer, setting)
    flops = step_flops(recipe, [length] * rows)
    return Side(step, [float(rows * length)] * setting.steps, [flops] * setting.steps)


def measure(name: str, setting: Setting) -> dict[str, float]:
    """FLOP/s, those of the matmul peak meanwhile, units a second and memory of pluri's side of a work.

    Raises: RuntimeError where it ends or fails.
    """
    side = Remote(name, "ours", setting)
    try:
        side.ready()
        steps = [number % setting.steps for number in range(WARMUP + STEPS)]
        times, peaks = [], []
        for number in steps:
            times.append(side.seconds(number))
            peaks.append(side.peak())
        memory = side.memory()
    finally:
        side.close()
    speeds = [side.flops[number] / seconds for number, seconds in zip(steps[WARMUP:], times[WARMUP:], strict=True)]
    rates = [side.sizes[number] / seconds for number, seconds in zip(steps[WARMUP:], times[WARMUP:], strict=True)]
    speed = statistics.median(speeds)
    return {"speed": speed, "peak": max(peaks), "rate": statistics.median(rates), "memory": memory}


def unit_flops(recipe: Recipe) -> float:
    """Of a step, for each unit of a row: of as many tokens as an item may have, of 12 s of speech, of an image."""
    data = recipe.data
    if isinstance(data, TextDataConfig):
        length, size = data.longest, float(data.longest)
    elif isinstance(data, AudioDataConfig):
        size = min(12.0, data.longest)
        length = int(size * 16_000)
    else:
        length, size = 1, 1.0
    return step_flops(recipe, [length]) / size


def run_flops(recipe: Recipe) -> float:
    """Of a whole run."""
    return recipe.steps * recipe.batch * unit_flops(recipe)


def tokens_that_fit(curve: Sequence[dict[str, Any]], memory: float) -> tuple[float, float]:
    """GiB for each 1,000 tokens of a step, by a line through the curve over batch, and how many `memory` GiB hold.

    Infinitely many where larger batches took no more memory.
    """
    tokens = [point["length"] * point["batch"] for point in curve]
    slope, start = np.polyfit(tokens, [point["memory"] for point in curve], 1)
    return 1000 * float(slope), float((memory - start) / slope) if slope > 0 else math.inf


def _memory(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory / 2**30
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def write(content: dict[str, Any], file: Path) -> None:
    """Writes what was measured so far, each MFU being of the best peak so far."""
    rows = [row for curve in content["curves"].values() for row in curve] + list(content.get("runs", {}).values())
    best = max((row["peak"] for row in rows), default=0.0)
    for row in rows:
        row["mfu"] = row["speed"] / best
    file.write_text(json.dumps(content | {"peak": best}, indent=1) + "\n")


def _curves(setting: Setting, content: dict[str, Any], file: Path) -> dict[str, list[dict[str, Any]]]:
    """The points of each curve, also written into `content` and the file."""
    base, curves = (SMALL_BASE, SMALL_CURVES) if setting.small else (BASE, CURVES)
    base = {**base, "batch": setting.rows(base["batch"])}
    grows = setting.device.type == "cuda" and not setting.small
    print(f"{'length':>7}{'batch':>7}{'depth':>7}{'width':>7}{'tokens/s':>11}{'GiB':>7}")
    seen: dict[str, dict[str, Any] | None] = {}
    found: dict[str, list[dict[str, Any]]] = {}
    for axis, values in curves.items():
        found[axis] = []
        waiting = [setting.rows(value) for value in values] if axis == "batch" else list(values)
        while waiting:
            point = {**base, axis: waiting.pop(0)}
            name = point_name(point)
            if name not in seen:
                seen[name] = _point(point, setting)
            if row := seen[name]:
                found[axis].append(row)
                if grows and axis == "batch" and not waiting:
                    waiting.append(2 * point["batch"])
            write(content | {"curves": found}, file)
    return found


def _point(point: dict[str, int], setting: Setting) -> dict[str, Any] | None:
    """A point of the curves; None if it could not be measured. Either is printed."""
    start = "".join(f"{point[axis]:>7}" for axis in BASE)
    try:
        row = measure(point_name(point), setting)
    except RuntimeError as error:
        print(f"{start}  {error}", flush=True)
        return None
    print(f"{start}{row['rate']:>11,.0f}{row['memory']:>7.1f}", flush=True)
    return {**point, **row}


def _runs(setting: Setting) -> dict[str, dict[str, float]]:
    """What whole runs of the base recipes would take, each at the speed of its own measured step."""
    where = (
        torch.cuda.get_device_name(setting.device) if setting.device.type == "cuda" else "this CPU, no GPU being here"
    )
    print(f"\nwhole runs on {where}; on 64 such devices, if nothing were lost between them")
    print(f"{'recipe':<20}{'step of':<12}{'TFLOP/s':>9}{'EFLOP':>8}{'days':>12}{'on 64':>10}")
    found: dict[str, dict[str, float]] = {}
    for name, work_name in RUNS.items():
        try:
            row = measure(work_name, setting)
        except RuntimeError as error:
            print(f"{name:<20}{work_name:<12}  {error}", flush=True)
            continue
        flops = run_flops(recipes.find(name))
        days = flops / row["speed"] / 86_400
        found[name] = {**row, "flops": flops, "days": days}
        print(
            f"{name:<20}{work_name:<12}{row['speed'] / 1e12:>9.2f}{flops / 1e18:>8.1f}"
            f"{days:>12,.1f}{days / 64:>10,.1f}",
            flush=True,
        )
    return found


def _print_shares(content: dict[str, Any]) -> None:
    """MFU, known when all is measured."""
    print("\nMFU, all at the best matmul peak of this run")
    for axis, rows in content["curves"].items():
        print(f"{axis:<12}" + ", ".join(f"{row[axis]}: {row['mfu']:.0%}" for row in rows))
    for name, row in content.get("runs", {}).items():
        print(f"{name:<20}{row['mfu']:.0%}")


def _draw(curves: dict[str, list[dict[str, Any]]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5.5), layout="constrained")
    panels = figure.subplots(2, len(curves))
    for column, (axis, rows) in enumerate(curves.items()):
        for row, (what, label) in enumerate((("rate", "tokens a second"), ("memory", "GiB"))):
            panel = panels[row][column]
            panel.plot([point[axis] for point in rows], [point[what] for point in rows], marker="o")
            panel.set(xscale="log", xlabel=axis, ylim=(0, None), ylabel=label if column == 0 else "")
            panel.set_xticks([point[axis] for point in rows], [str(point[axis]) for point in rows])
            panel.minorticks_off()
    figure.savefig(path, dpi=100)


def main(words: list[str]) -> None:
    """`pluri bench cost`."""
    parser = argparse.ArgumentParser(prog="pluri bench cost", description=__doc__, allow_abbrev=False)
    parser.add_argument("--quick", action="store_true", help="small networks, no runs")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="bf16")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--out", type=Path, default=Path("pluri-bench"), help="folder for cost.json and cost.png")
    known = parser.parse_args(words)
    setting = Setting(find_device(known.device), known.precision, known.quick, STEPS)
    known.out.mkdir(parents=True, exist_ok=True)
    file = known.out / FILE
    content: dict[str, Any] = {"setting": str(setting)}
    content["curves"] = curves = _curves(setting, content, file)
    if not any(curves.values()):
        raise SystemExit("no point could be measured")
    if len(curves["batch"]) > 1:
        slope, most = tokens_that_fit(curves["batch"], _memory(setting.device))
        at = curves["batch"][0]
        ends = f"ends at about {most:,.0f} tokens" if most < math.inf else "has no end that these would show"
        print(
            f"{slope:.2f} GiB for each 1,000 tokens of a step (depth {at['depth']}, width {at['width']}, rows of "
            f"{at['length']}): by a line through these, memory {ends}"
        )
        content |= {"gib_per_1000_tokens": slope, "most_tokens": most if most < math.inf else None}
    if not setting.small:  # the speed of small networks says nothing of the recipes'
        content["runs"] = _runs(setting)
    write(content, file)
    _print_shares(content)
    _draw(curves, known.out / "cost.png")
