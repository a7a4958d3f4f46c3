# SPDX-License-Identifier: Apache-2.0
"""`pluri bench`: the same work in pluri and in its peers, on this machine, in turns."""

import argparse
import importlib.metadata
import importlib.util
import json
import statistics
from pathlib import Path
from typing import Any

import torch

from ...ssl.parallel import find_device
from .side import Precision, Remote, Setting, Work

FILE = "bench.json"
WARMUP = 2  # steps: allocators, autotuning, and the compiler that fairseq2 calls


def measure(work: Work, setting: Setting) -> dict[str, Any]:
    """One row: both sides' medians over the steps, their ratio, and model FLOPs against the matmul peak meanwhile.

    Raises: RuntimeError, with its last words, if a side cannot work.
    """
    sides = Remote(work.name, "ours", setting), Remote(work.name, "theirs", setting)
    times: tuple[list[float], list[float]] = ([], [])
    peaks: list[float] = []
    try:
        for side in sides:
            side.ready()
        for number in range(-WARMUP, setting.steps):
            for which in (0, 1) if number % 2 == 0 else (1, 0):
                seconds = sides[which].seconds(max(0, number))
                if number >= 0:
                    times[which].append(seconds)
            peaks.append(sides[0].peak())
        memory = [side.memory() for side in sides]
    finally:
        for side in sides:
            side.close()
    ours, theirs = ([n / t for n, t in zip(s.sizes, ts, strict=True)] for s, ts in zip(sides, times, strict=True))
    ratios = [mine / its for mine, its in zip(ours, theirs, strict=True)]
    flops = [f / t for f, t in zip(sides[0].flops, times[0], strict=True)]
    middle = [statistics.median(rates) for rates in (ours, theirs)]
    return {
        "work": work.name,
        "peer": work.peer,
        "precision": setting.precision,
        "device": setting.device.type,
        "quick": setting.small,
        "threads": torch.get_num_threads(),
        "versions": {name: importlib.metadata.version(name) for name in ("torch", *work.needs)},
        "unit": work.unit,
        "ours": middle[0],
        "theirs": middle[1],
        "ratio": middle[0] / middle[1],
        "spread": [min(ratios), max(ratios)],  # of the ratios of steps that followed one another
        "mfu": statistics.median(flops) / max(peaks),
        "peak": max(peaks),  # FLOP/s
        "memory": memory,  # GiB, ours and theirs
        "seconds": times,
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
    parser.add_argument("what", nargs="*", metavar="WHAT", help=f"{', '.join(names)}, or cost")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="4 x 256 networks, short inputs, fp32 only, a work of each kind: two minutes",
    )
    parser.add_argument("--precision", choices=("fp32", "bf16", "both"))
    parser.add_argument("--steps", type=_count, help="measured steps of each work, after two that are not")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--out", type=Path, default=Path("pluri-bench"), help="folder for bench.json")
    return parser


def _row(work: Work, setting: Setting) -> dict[str, Any] | None:
    """A measured row; None if a side failed. Either is printed."""
    start = f"{work.name:<24}{work.peer:<14}{setting.precision:<6}"
    try:
        row = measure(work, setting)
    except RuntimeError as error:
        print(f"{start}not measured: {error}", flush=True)
        return None
    print(_line(row), flush=True)
    return row


def _chosen(wanted: list[str], device: torch.device, quick: bool) -> list[Work]:
    """The works that the words ask for; without words all, but for those that would take too long here."""
    from .works import WORKS

    named = [work for work in WORKS if work.name in wanted]
    room = [work for work in WORKS if (not wanted or work.modality in wanted) and work not in named]
    left = [work for work in room if (quick and not work.quick) or (work.large and device.type == "cpu")]
    if left:
        print(f"by name only: {', '.join(work.name for work in left)}")
    return [work for work in WORKS if work in named or (work in room and work not in left)]


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no number of steps: 1 or more")
    return int(text)


def main(words: list[str]) -> None:
    """`pluri bench`. Exits with 1 if a side failed."""
    from . import cost
    from .works import WORKS

    if "cost" in words:
        cost.main([word for word in words if word != "cost"])
        return
    names = ["text", "speech", "vision", *(work.name for work in WORKS)]
    parser = _parser(names)
    known = parser.parse_args(words)
    if unknown := set(known.what) - set(names):
        parser.error(f"nothing is called {', '.join(sorted(unknown))}: there are {', '.join(names)}")
    known.out.mkdir(parents=True, exist_ok=True)
    device = find_device(known.device)
    wanted = known.precision or ("fp32" if known.quick else "both")
    precisions: list[Precision] = ["fp32", "bf16"] if wanted == "both" else [wanted]
    steps = known.steps or (2 if known.quick else 4)
    chosen = _chosen(known.what, device, known.quick)
    print(f"{device.type}, {torch.get_num_threads()} threads, torch {torch.__version__}; real units a second")
    print(f"{'work':<24}{'peer':<20}{'pluri':>9}{'peer':>9} {'':<10}{'ratio':>6} (all steps)    {'MFU':>5} {'GiB':>6}")
    settings = [Setting(device, precision, known.quick, steps) for precision in precisions]
    if not _all(chosen, settings, known.out / FILE):
        raise SystemExit(1)


def _all(works: list[Work], settings: list[Setting], file: Path) -> bool:
    """Measures works in all settings, into the file beside the rows of others; returns whether all went well."""
    again = {(work.name, it.precision, it.device.type, it.small) for work in works for it in settings}
    rows = json.loads(file.read_text()) if file.is_file() else []
    rows = [row for row in rows if tuple(row.get(key) for key in ("work", "precision", "device", "quick")) not in again]
    well = True
    file.write_text(json.dumps(rows, indent=1) + "\n")
    for work in works:
        if absent := missing(work):
            print(f"{work.name:<24}{work.peer:<20}not measured: {', '.join(absent)} not installed", flush=True)
            continue
        for setting in settings:
            row = _row(work, setting)
            rows += [row] if row else []
            well = well and row is not None
            file.write_text(json.dumps(rows, indent=1) + "\n")
    return well
