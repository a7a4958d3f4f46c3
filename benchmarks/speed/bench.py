# SPDX-License-Identifier: Apache-2.0
"""`pluri bench`: the same work in pluri and in its peers, on this machine, in turns."""

import argparse
import importlib.util
import json
import statistics
from pathlib import Path
from typing import Any

import torch

from ...ssl.train import find_device
from .side import Precision, Remote, Setting, Work

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
    return {
        "work": work.name,
        "peer": work.peer,
        "precision": setting.precision,
        "device": setting.device.type,
        "unit": work.unit,
        "ours": statistics.median(ours),
        "theirs": statistics.median(theirs),
        "ratio": statistics.median(ratios),
        "spread": [min(ratios), max(ratios)],
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
        f"{row['work']:<16}{row['peer']:<14}{row['precision']:<6}{row['ours']:>9.2f}{row['theirs']:>9.2f} "
        f"{row['unit'] + '/s':<10}{row['ratio']:>6.2f} ({low:.2f} to {high:.2f}) {100 * row['mfu']:>4.0f} % "
        f"{ours:>5.1f} {theirs:>5.1f}"
    )


def main(words: list[str]) -> None:
    """`pluri bench`."""
    from . import cost
    from .works import WORKS

    if words[:1] == ["cost"]:
        cost.main(words[1:])
        return

    modalities = ("text", "speech", "vision")
    names = [work.name for work in WORKS]
    parser = argparse.ArgumentParser(prog="pluri bench", description=__doc__, allow_abbrev=False)
    parser.add_argument("what", nargs="*", metavar="WHAT", help=f"{', '.join((*modalities, *names))}, or cost")
    parser.add_argument("--quick", action="store_true", help="4 x 256 networks, short inputs, fp32 only: two minutes")
    parser.add_argument("--precision", choices=("fp32", "bf16", "both"))
    parser.add_argument("--steps", type=int, help="measured steps of each work, after two that are not")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--out", type=Path, default=Path("pluri-bench"), help="folder for bench.json")
    known = parser.parse_args(words)
    if unknown := set(known.what) - {*modalities, *names}:
        parser.error(f"nothing is called {', '.join(sorted(unknown))}: there are {', '.join((*modalities, *names))}")
    chosen = [work for work in WORKS if not known.what or {work.name, work.modality} & set(known.what)]
    device = find_device(known.device)
    precision = known.precision or ("fp32" if known.quick else "both")
    precisions: list[Precision] = ["fp32", "bf16"] if precision == "both" else [precision]
    steps = known.steps or (2 if known.quick else 4)
    print(
        f"{device.type}, {torch.get_num_threads()} threads, torch {torch.__version__}; real units a second, pluri first"
    )
    print(f"{'work':<16}{'peer':<20}{'pluri':>9}{'peer':>9} {'':<10}{'ratio':>6} (all steps)    {'MFU':>5} {'GiB':>6}")
    rows = []
    known.out.mkdir(parents=True, exist_ok=True)
    for work in chosen:
        if absent := missing(work):
            print(f"{work.name:<16}{work.peer:<14}not measured: {', '.join(absent)} not installed", flush=True)
            continue
        for precision in precisions:
            try:
                rows.append(measure(work, Setting(device, precision, known.quick, steps)))
            except RuntimeError as error:
                print(f"{work.name:<16}{work.peer:<14}{precision:<6}not measured: {error}", flush=True)
                continue
            print(_line(rows[-1]), flush=True)
            (known.out / "bench.json").write_text(json.dumps(rows, indent=1) + "\n")
