# SPDX-License-Identifier: Apache-2.0
"""`pluri demo`: five methods pre-trained on embedded data, scored beside their random twins, in minutes and offline."""

import argparse
import dataclasses
import html
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from .. import recipes
from ..cli import override
from ..speech.spectrum import SpectrumFrontEnd
from ..ssl import checkpoint
from ..ssl.objective import Batch, Objective
from ..ssl.objectives.bert import Bert
from ..ssl.objectives.mockingjay import Mockingjay
from ..ssl.pretrain import ASSETS, pretrain
from ..ssl.recipe import Recipe
from . import embedded, tasks
from .encoders import load
from .evaluate import evaluate
from .features import vectors
from .labelled import LabelledConfig, read
from .report import Page, curve, metrics, new_figure
from .scores import Row


class Case(NamedTuple):
    """A method of the tour."""

    recipe: str
    data: str  # what it learns from
    words: tuple[str, ...]  # what the demo changes in the recipe, as on the command line
    labelled: str
    task: str
    settings: tuple[str, ...] = ()  # what it changes in the task


# Digits are 16 pixels of one channel, and a mirrored digit is another.
DIGITS = (
    *("--data.size", "16", "--data.channels", "1"),
    *("--front-end.size", "16", "--front-end.patch", "4", "--encoder.positions.length", "17"),
    *("--objective.views.size", "16"),
    *("--objective.views.first.flip", "0", "--objective.views.second.flip", "0"),
)
# BYOL learns slowly from a teacher that is random at first: views this alike give it something to predict.
MILD = (
    *("--objective.views.first.crop", "0.5", "1.0", "--objective.views.second.crop", "0.5", "1.0"),
    *("--objective.views.first.jitter", "0", "--objective.views.second.jitter", "0"),
    *("--objective.views.first.grey", "0", "--objective.views.second.grey", "0"),
    *("--objective.views.second.solarise", "0"),
)
CASES = (
    Case(
        "text/bert_tiny",
        "text/docstrings.txt",
        ("--steps", "390", "--data.vocab-size", "4000", "--data.longest", "96"),
        "text/order.tsv",
        "classify/linear",
    ),
    Case(
        "speech/mockingjay_tiny",
        "speech/sentences",
        ("--steps", "350"),
        "speech/words.tsv",
        "classify/linear",
        ("--layer", "2"),
    ),
    Case(
        "speech/wav2vec2_tiny",
        "speech/sentences",
        ("--steps", "170", "--front-end.channels", "96"),
        "speech/words.tsv",
        "classify/linear",
        ("--layer", "1"),
    ),
    Case(
        "vision/byol_tiny",
        "digits",
        (*DIGITS, *MILD, "--batch", "64", "--steps", "340", "--optimizer.lr", "3e-4"),
        "digits",
        "classify/knn",
    ),
    Case("vision/vicreg_tiny", "digits", (*DIGITS, "--batch", "128", "--steps", "130"), "digits", "classify/knn"),
)


def main(words: list[str]) -> None:
    """`pluri demo [--out DIR]`."""
    parser = argparse.ArgumentParser(prog="pluri demo", description="a tour on embedded data: offline, minutes")
    parser.add_argument("--out", type=Path, default=Path("pluri-demo"))
    parser.add_argument("--quick", action="store_true", help="a tenth of the steps: shows that all works, not learning")
    known = parser.parse_args(words)
    out: Path = known.out
    start = time.perf_counter()
    print("embedded data: docstrings of installed packages, synthetic speech, handwritten digits", flush=True)
    embedded.documentation(out / "data" / "text")
    embedded.speech(out / "data" / "speech")
    embedded.digits(out / "data" / "digits")
    page = Page("pluri: five ways of learning without labels")
    page.text(
        "Each encoder below learned from unlabelled data that came with this machine, within a minute or two. The "
        "scores compare it, frozen, with the same network at random weights and with raw features."
    )
    table: list[tuple[str, ...]] = []
    sections: list[Callable[[], None]] = []
    for case in CASES:
        print(f"\n{case.recipe}", flush=True)
        recipe = _recipe(case, out, known.quick)
        run = out / case.recipe.replace("/", "-")
        pretrain(recipe, run)
        lines = _score(case, run, out)
        table.append(_row(case, run, lines))
        sections.append(lambda case=case, run=run, lines=lines: _section(page, case, run, lines, out))
    head = ("method", "loss at first", "held out at last", "encoder", "random twin", "raw features")
    page.table(head, table)
    for section in sections:
        section()
    minutes = (time.perf_counter() - start) / 60
    page.text(f"All of it took {minutes:.1f} minutes on {torch.get_num_threads()} threads.", note=True)
    page.save(out / "index.html")
    _print(head, table)
    print(f"\n{minutes:.1f} minutes. Open {out / 'index.html'}")


def _recipe(case: Case, out: Path, quick: bool) -> Recipe:
    words = [*case.words, "--data.path", str(out / "data" / case.data), "--loop.workers", "0"]
    recipe = override(recipes.find(case.recipe), words, "pluri demo")
    steps = max(3, recipe.steps // 10) if quick else recipe.steps
    loop = dataclasses.replace(recipe.loop, evaluate_every=max(1, steps // 3), save_every=steps, keep=1)
    return dataclasses.replace(recipe, steps=steps, loop=loop)


def _score(case: Case, run: Path, out: Path) -> list[Row]:
    words = ["--data.path", str(out / "data" / case.labelled), *case.settings]
    task = override(tasks.find(case.task)[case.task], words, "pluri demo")
    lines = evaluate(case.task, task, str(run), seeds=2)
    for line in lines:
        print(f"  {statistics.median(line.values()):.3f}  {line.encoder}")
    return lines


def _row(case: Case, run: Path, lines: list[Row]) -> tuple[str, ...]:
    rows = metrics(run)
    held = next((row["held_out_loss"] for row in reversed(rows) if "held_out_loss" in row), float("nan"))
    scores = [f"{statistics.median(line.values()):.3f}" for line in lines]
    return case.recipe, f"{rows[0]['loss']:.3f}", f"{held:.3f}", *scores


def _print(head: tuple[str, ...], table: list[tuple[str, ...]]) -> None:
    widths = [max(len(row[i]) for row in (head, *table)) for i in range(len(head))]
    print()
    for row in (head, *table):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _section(page: Page, case: Case, run: Path, lines: list[Row], out: Path) -> None:
    page.heading(case.recipe)
    page.text(recipes.names()[case.recipe])
    page.figure(curve(run), f"{case.recipe}: the loss over the steps")
    classes = {
        "text": "texts as they were written from texts with shuffled words",
        "speech": "words, by unheard speakers",
        "vision": "digits",
    }
    asked = classes[case.recipe.split("/")[0]]
    scores = ", ".join(
        f"{line.encoder if i else 'encoder'} {statistics.median(line.values()):.3f}" for i, line in enumerate(lines)
    )
    page.text(f"Accuracy in telling {asked} ({case.task}): {scores}.")
    objective, data = _trained(run)
    if isinstance(objective, Bert):
        _blanks(page, objective, data)
    elif isinstance(objective, Mockingjay):
        _spectrogram(page, objective, data)
    elif case.recipe.startswith("vision/"):
        _neighbours(page, run, out / "data" / case.labelled)


def _trained(run: Path) -> tuple[Objective, Batch]:
    """The trained objective and a batch of the held-out split."""
    from ..ssl.data import Loader

    recipe = Recipe.load(run)
    objective = recipe.build(run / ASSETS)
    newest = checkpoint.latest(run)
    assert newest is not None
    objective.load_state_dict(checkpoint.load_weights(newest))
    held_out = recipe.data.build("held_out", run / "cache")
    loaded = next(Loader(dataset=held_out, batch=recipe.batch, seed=1).once())
    assert loaded.batch is not None
    return objective.eval(), loaded.batch


@torch.inference_mode()
def _blanks(page: Page, objective: Bert, data: Batch, shown: int = 5) -> None:
    """Held-out text with blanks filled in: right in green, wrong in red with the true word."""
    from ..text.frontend import TextFrontEnd

    front_end = objective.backbone.front_end
    assert isinstance(front_end, TextFrontEnd) and front_end.tokenizer is not None and data.lengths is not None
    name = front_end.tokenizer.id_to_token
    ids = data.inputs[..., 0]
    masked = objective.masked(data, ids, data.lengths)
    hidden = torch.where(masked, objective.vocabulary.mask_id, ids)
    encoded = objective.backbone(torch.stack([hidden, data.inputs[..., 1]], -1), data.lengths, layers=False)
    x = objective.transform_norm(torch.nn.functional.gelu(objective.transform(encoded.x)))
    guess = (x @ objective.table().T + objective.bias).argmax(-1)
    page.text("Held-out text with every seventh token hidden, as the encoder fills it in:")
    for row in data.lengths.argsort(descending=True)[:shown].tolist():
        words = []
        for column in range(1, int(data.lengths[row]) - 1):
            token = name(int(ids[row, column])) or ""
            joined = token.startswith("##")
            piece = html.escape(token.removeprefix("##"))
            if masked[row, column]:
                found = html.escape((name(int(guess[row, column])) or "").removeprefix("##"))
                right = bool(guess[row, column] == ids[row, column])
                piece = (
                    f"<mark>{piece}</mark>" if right else f'<mark class="wrong">{found}</mark> <small>({piece})</small>'
                )
            words.append(piece if joined or not words else f" {piece}")
        page.markup("<p>" + "".join(words) + "</p>")


@torch.inference_mode()
def _spectrogram(page: Page, objective: Mockingjay, data: Batch) -> None:
    """What the encoder saw of a held-out clip, what it made of it, and what was there."""
    front_end = objective.backbone.front_end
    assert isinstance(front_end, SpectrumFrontEnd) and data.lengths is not None
    units = front_end.units(data.inputs, data.lengths)
    counts = units.lengths
    assert counts is not None
    row = int(counts.argmax())
    starts, masked, _ = objective._masks(data, counts, units.values.shape[1])
    corrupted = units.values.masked_fill(masked[..., None], 0.0)
    encoded = objective.backbone.encode(front_end.embed(corrupted), counts)
    rebuilt = torch.where(masked[..., None], objective.head(encoded.x), units.values)
    bins, stack = front_end.config.features.bins, front_end.stack
    figure = new_figure(9, 5)
    pictures = (
        ("as the encoder saw it", corrupted),
        ("hidden spans reconstructed", rebuilt),
        ("the truth", units.values),
    )
    for place, (title, values) in enumerate(pictures, start=1):
        frames = values[row, : int(counts[row])].unflatten(1, (stack, -1)).flatten(0, 1)  # (frames, U / stack)
        axes = figure.add_subplot(3, 1, place)
        axes.imshow(frames[:, :bins].T, origin="lower", aspect="auto", vmin=-2, vmax=2.5, cmap="magma")
        axes.set_title(title, fontsize=9)
        axes.set_yticks([])
        if place < 3:
            axes.set_xticks([])
        else:
            axes.set_xlabel("frames of 10 ms")
    page.figure(figure, "A held-out sentence: masked, reconstructed and true filter bank features")


def _neighbours(page: Page, run: Path, path: Path) -> None:
    """Test images, each with the nearest training images."""
    backbone = load(run)
    parts = read(LabelledConfig(path=str(path)), backbone)
    train, test = vectors(backbone, parts.train), vectors(backbone, parts.test)
    known, asked = (torch.nn.functional.normalize(torch.from_numpy(v.x), dim=1) for v in (train, test))
    figure = new_figure(7, 4.5)
    for line, query in enumerate(range(0, 60, 10)):
        nearest = (asked[query] @ known.T).topk(7).indices.tolist()
        images = [parts.test.load(parts.test.records[query], 0)] + [
            parts.train.load(parts.train.records[i], 0) for i in nearest
        ]
        for column, item in enumerate(images):
            axes = figure.add_subplot(6, 8, line * 8 + column + 1)
            axes.imshow(item.inputs[0], cmap="gray_r")
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_color("#c4591b" if column == 0 else "#dddddd")
            if line == 0:
                axes.set_title("asked" if column == 0 else f"{column}", fontsize=8)
    page.figure(figure, "Test images (left) and their nearest training images")
