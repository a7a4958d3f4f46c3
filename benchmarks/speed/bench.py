# SPDX-License-Identifier: Apache-2.0
"""`pluri bench`: the same work in pluri and in its peers, on this machine, in turns."""

import argparse
import importlib.metadata
import importlib.util
import json
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from ...ssl.parallel import find_device
from .side import Precision, Remote, Setting, Work

FILE = "bench.json"
WARMUP = (
    4  # steps: allocators (lightly's first touches 4 GiB anew, its third still 0.4), autotuning, fairseq2's compiler
)
QUICK_WARMUP = 2  # of small networks
KEY = ("work", "precision", "device", "quick", "compile")  # what tells rows apart
FOOT = """
A step goes from rows in memory to updated weights: collating them, copying them to the device, the loss, its gradient,
the clip, the optimiser; in states, to each clip's states on the host. Left out on both sides: reading files, a loader's
workers, the learning rate's schedule, metrics. lightly's views are drawn by its own loader, which is in its step.
`pluri bench input` sets pluri's loader beside its steps."""


def turns(ahead: int, steps: int, warmup: int = WARMUP) -> Iterator[tuple[int, int]]:
    """Whose step comes next (0: ours, 1: theirs), and its number; those below 0 are not measured.

    The sides take turns. But if the peer's loader works `ahead`, other turns would give it time that nobody measures,
    and its workers would run on beside ours: then the peer takes all its steps first, until its loader has nothing in
    store and beyond. Where that loader is hardly slower than its step, some of its store is still measured.
    """
    if ahead:
        yield from ((1, number) for number in range(-warmup - ahead, steps))
        yield from ((0, number) for number in range(-warmup, steps))
        return
    for number in range(-warmup, steps):
        yield from ((which, number) for which in ((0, 1) if number % 2 == 0 else (1, 0)))


def measure(work: Work, setting: Setting) -> dict[str, Any]:
    """One row: both sides' medians over the steps, their ratio, and model FLOPs against the matmul peak meanwhile.

    Raises: RuntimeError, with its last words, if a side cannot work.
    """
    sides = Remote(work.name, "ours", setting), Remote(work.name, "theirs", setting)
    times: tuple[list[float], list[float]] = ([], [])
    peaks: list[float] = []
    memory = [0.0, 0.0]
    try:
        for side in sides:
            side.ready()
        for which, number in turns(sides[1].ahead, setting.steps, QUICK_WARMUP if setting.small else WARMUP):
            seconds = sides[which].seconds(max(0, number))
            if number >= 0:
                times[which].append(seconds)
            if which == 0:
                peaks.append(sides[0].peak())
            if number == setting.steps - 1:  # its last: none of its processes shall run beside the other side
                memory[which] = sides[which].memory()
                sides[which].close()
    finally:
        for side in sides:
            side.close()
    ours, theirs = ([n / t for n, t in zip(s.sizes, ts, strict=True)] for s, ts in zip(sides, times, strict=True))
    ratios = [mine / its for mine, its in zip(ours, theirs, strict=True)]
    flops = [f / t for f, t in zip(sides[0].flops, times[0], strict=True)]
    middle = [statistics.median(rates) for rates in (ours, theirs)]
    return {
        **_head(work, setting),
        "versions": {name: importlib.metadata.version(name) for name in ("torch", *work.needs)},
        "ours": middle[0],
        "theirs": middle[1],
        "ratio": middle[0] / middle[1],
        "spread": [min(ratios), max(ratios)],  # of the ratios of steps on the same batch
        "mfu": statistics.median(flops) / max(peaks),
        "peak": max(peaks),  # FLOP/s
        "memory": memory,  # GiB, ours and theirs
        "seconds": times,
    }


def _head(work: Work, setting: Setting) -> dict[str, Any]:
    """What a row says before it is measured."""
    return {
        "work": work.name,
        "peer": work.peer,
        "precision": setting.precision,
        "device": setting.device.type,
        "quick": setting.small,
        "compile": setting.compile,
        "threads": torch.get_num_threads(),
        "unit": work.unit,
    }


def missing(work: Work) -> list[str]:
    """The packages that the peer needs and that are not installed."""
    return [name for name in work.needs if importlib.util.find_spec(name) is None]


def _line(row: dict[str, Any]) -> str:
    low, high = row["spread"]
    ours, theirs = row["memory"]
    return (
        f"{row['work']:<24}{row['peer']:<14}{row['precision']:<6}{row['ours']:>9.2f}{row['theirs']:>9.2f} "
        f"{row['unit'] + '/s':<10}{row['ratio']:>6.2f} ({low:.2f} to {high:.2f}) {100 * row['mfu']:>4.0f} % "
        f"{ours:>5.1f} {theirs:>5.1f}"
    )


def _parser(names: list[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pluri bench", description=__doc__, allow_abbrev=False)
    parser.add_argument(
        "what", nargs="*", metavar="WHAT", help=f"{', '.join(names)}; or, as the first word, cost or input"
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="4 x 256 networks, short inputs, fp32 only, a work of each kind: two minutes",
    )
    parser.add_argument("--precision", choices=("fp32", "bf16", "both"))
    parser.add_argument("--steps", type=_count, help="measured steps of each work, after four that are not")
    parser.add_argument("--compile", action="store_true", help="torch.compile each block of pluri's encoder")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--out", type=Path, default=Path("pluri-bench"), help="folder for bench.json")
    return parser


def _row(work: Work, setting: Setting) -> dict[str, Any]:
    """A measured row, or one without figures that says why there are none. Either is printed."""
    absent = missing(work)
    try:
        if absent:
            raise RuntimeError(f"{', '.join(absent)} not installed")
        row = measure(work, setting)
    except RuntimeError as error:
        print(f"{work.name:<24}{work.peer:<14}{setting.precision:<6}not measured: {error}", flush=True)
        figures = dict.fromkeys(("ours", "theirs", "ratio", "spread", "mfu", "memory"))
        return {**_head(work, setting), **figures, "not_measured": str(error)}
    print(_line(row), flush=True)
    return row


def _replaced(rows: list[dict[str, Any]], new: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows and a new one in place of its like; what was measured before makes room only for a new measurement."""

    def stays(row: dict[str, Any]) -> bool:
        other = any(row.get(key, False) != new[key] for key in KEY)
        return other or ("not_measured" in new and "not_measured" not in row)

    return [row for row in rows if stays(row)] + [new]


def _chosen(wanted: list[str], device: torch.device, quick: bool) -> list[Work]:
    """The works that the words ask for; without words all, but for those that would take too long here."""
    from .works import WORKS

    named = [work for work in WORKS if work.name in wanted]
    room = [work for work in WORKS if (not wanted or work.modality in wanted) and work not in named]
    left = [work for work in room if (quick and not work.quick) or (work.large and device.type == "cpu")]
    if left:
        peers = [work.peer + (", not installed" if missing(work) else "") for work in left]
        words = ", ".join(f"{work.name} ({peer})" for work, peer in zip(left, peers, strict=True))
        print(f"by name only: {words}")
    return [work for work in WORKS if work in named or (work in room and work not in left)]


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no number of steps: 1 or more")
    return int(text)


def main(words: list[str]) -> None:
    """`pluri bench`. Exits with 1 if a side failed."""
    from . import cost, feed
    from .works import WORKS

    for name, command in (("cost", cost.main), ("input", feed.main)):
        if words[:1] == [name]:
            return command(words[1:])
    names = ["text", "speech", "vision", *(work.name for work in WORKS)]
    parser = _parser(names)
    known = parser.parse_args(words)
    if unknown := set(known.what) - set(names):
        parser.error(
            f"nothing is called {', '.join(sorted(unknown))}: there are {', '.join(names)}; cost or input come first"
        )
    known.out.mkdir(parents=True, exist_ok=True)
    device = find_device(known.device)
    wanted = known.precision or ("fp32" if known.quick else "both")
    precisions: list[Precision] = ["fp32", "bf16"] if wanted == "both" else [wanted]
    steps = known.steps or (2 if known.quick else 4)
    chosen = _chosen(known.what, device, known.quick)
    print(f"{device.type}, {torch.get_num_threads()} threads, torch {torch.__version__}; real units a second")
    print(f"{'work':<24}{'peer':<20}{'pluri':>9}{'peer':>9} {'':<10}{'ratio':>6} (all steps)    {'MFU':>5} {'GiB':>6}")
    settings = [Setting(device, precision, known.quick, steps, known.compile) for precision in precisions]
    well = _all(chosen, settings, known.out / FILE)
    print(FOOT)
    if not well:
        raise SystemExit(1)


def _all(works: list[Work], settings: list[Setting], file: Path) -> bool:
    """Measures works in all settings, into the file beside the rows of others; False if a side failed."""
    rows = json.loads(file.read_text()) if file.is_file() else []
    well = True
    for work in works:
        for setting in settings:
            row = _row(work, setting)
            rows = _replaced(rows, row)
            well = well and ("not_measured" not in row or bool(missing(work)))
            file.write_text(json.dumps(rows, indent=1) + "\n")
    return well
