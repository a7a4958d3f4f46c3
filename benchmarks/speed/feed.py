# SPDX-License-Identifier: Apache-2.0
"""`pluri bench input`: what pluri's loader delivers alone, beside what a training step takes.

The datasets, the number of workers and the sorting by length are the base recipes' own; the data are made for it, as
files that the system then holds in memory: text of BERT's vocabulary, FLAC of 4 to 16 s, JPEG of 500 x 375. A batch is
a 64th of the recipe's, as on 64 devices. Where the loader delivers more than the step takes, and has cores of its own,
it is hidden behind compute.
"""

import argparse
import dataclasses
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from ... import recipes
from ...speech.corpus import AudioDataConfig
from ...ssl.data import Dataset, Loader, Position
from ...ssl.parallel import find_device
from ...ssl.recipe import Recipe
from ...text.corpus import TextDataConfig
from . import cost, speech, text
from .side import Setting

FILE = "input.json"
DEVICES = 64
SECONDS = 8.0  # of measuring; quick: 1


def _documents(path: Path) -> None:
    """400 documents of 20 lines of 5 to 40 words."""
    rng = np.random.default_rng(0)
    with path.open("w") as file:
        for _ in range(400):
            for count in rng.integers(5, 40, 20).tolist():
                file.write(" ".join(f"[unused{i}]" for i in text.words(rng, count)) + "\n")
            file.write("\n")


def _clips(folder: Path) -> None:
    """64 clips of noise."""
    import soundfile

    for number, clip in enumerate(speech.noise((4.0, 16.0), 64, 1, sort=False)[0]):
        soundfile.write(folder / f"{number:02d}.flac", clip.numpy(), speech.RATE)


def _pictures(folder: Path) -> None:
    """64 pictures of coloured clouds, each of some 100 kB."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for number in range(64):
        clouds = Image.fromarray(rng.integers(0, 256, (94, 125, 3), dtype=np.uint8))
        clouds.resize((500, 375), Image.Resampling.BICUBIC).save(folder / f"{number:02d}.jpg", quality=90)


def made(recipe: Recipe, folder: Path) -> Dataset:
    """The recipe's dataset, of data that are written into the folder."""
    files = folder / "files"
    files.mkdir()
    data = dataclasses.replace(recipe.data, path=str(files), held_out=0.0)
    if isinstance(data, TextDataConfig):
        _documents(files / "corpus.txt")
        text.tokenizer().save(str(folder / "tokenizer.json"))
        data = dataclasses.replace(data, tokenizer=str(folder / "tokenizer.json"))
    elif isinstance(data, AudioDataConfig):
        _clips(files)
    else:
        _pictures(files)
    return data.build("train", folder / "cache")


def delivered(loader: Loader, seconds: float) -> float:
    """Units a second, once no batch is left of those that the workers made while nobody counted."""
    steps = loader.steps(Position(0, 0))
    for _ in range(2 * loader.workers + 1):  # two is torch's number of batches ahead, for each worker
        next(steps)
    size, start = 0.0, time.perf_counter()
    while time.perf_counter() < start + seconds:
        for _ in range(max(1, loader.workers)):  # they deliver at about the same time
            size += sum(share.size for share in next(steps))
    return size / (time.perf_counter() - start)


def measure(name: str, setting: Setting) -> dict[str, Any]:
    """The loader's rate for a recipe and, unless small, its step's at the FLOP/s of its work in `pluri bench`."""
    recipe = recipes.find(name)
    with tempfile.TemporaryDirectory() as folder:
        data = made(recipe, Path(folder))
        loader = Loader(
            dataset=data,
            batch=recipe.batch / DEVICES,
            seed=0,
            workers=recipe.loop.workers,
            buckets=recipe.loop.buckets,
            pin=setting.device.type == "cuda",
        )
        rate = delivered(loader, 1.0 if setting.small else SECONDS)
    row = {"recipe": name, "unit": data.unit, "workers": loader.workers, "loader": rate, "step": None}
    if setting.small:  # the speed of small networks says nothing of the recipes'
        return row
    try:
        return row | {"step": cost.measure(cost.RUNS[name], setting)["speed"] / cost.unit_flops(recipe)}
    except RuntimeError as error:
        return row | {"not_measured": str(error)}


def main(words: list[str]) -> None:
    """`pluri bench input`."""
    parser = argparse.ArgumentParser(prog="pluri bench input", description=__doc__, allow_abbrev=False)
    parser.add_argument("--quick", action="store_true", help="a second of each loader, no steps")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="bf16", help="of the steps")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="of the steps")
    parser.add_argument("--out", type=Path, default=Path("pluri-bench"), help="folder for input.json")
    known = parser.parse_args(words)
    setting = Setting(find_device(known.device), known.precision, known.quick, cost.STEPS)
    known.out.mkdir(parents=True, exist_ok=True)
    rows = []
    print(f"{'recipe':<20}{'workers':>8}{'loader':>12}{'step':>12}  units a second")
    for name in cost.RUNS:
        row = measure(name, setting)
        rows.append(row)
        step = f"{row['step']:>12,.1f}" if row["step"] else f"{row.get('not_measured', '-'):>12}"
        print(f"{name:<20}{row['workers']:>8}{row['loader']:>12,.1f}{step}  {row['unit']}", flush=True)
        (known.out / FILE).write_text(json.dumps({"setting": str(setting), "rows": rows}, indent=1) + "\n")
