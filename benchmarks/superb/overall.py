# SPDX-License-Identifier: Apache-2.0
"""The overall SUPERB score, its reference points, and the rows of the leaderboard to stand beside ours.

All of it is from superbbenchmark/website-react@cacb90e (April 2024): the score from frontend/src/overall_metrics.js,
the points from frontend/src/Data.js (`reference_points`), the rows from backend/utils.py (`get_leaderboard_default`),
whose own source is the SUPERB and SUPERB-SG papers. Figures are as it prints them: percent for rates, accuracies, F1,
MTWV and STOI; BLEU, PESQ and SI-SDRi (dB) as they are.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

CORE = ("pr", "asr", "ks", "qbe", "sf", "ic", "sid", "asv", "sd", "er")  # the ten tasks of the first paper


class Reference(NamedTuple):
    """A task's metric and what is worth 0 and 1000 points; where `top` is below `base`, less is better."""

    task: str
    metric: str
    base: float  # of FBANK
    top: float  # of the best model when the points were fixed


REFERENCES = (
    Reference("pr", "per", 82.01, 3.53),
    Reference("asr", "wer", 23.18, 3.62),
    Reference("ks", "accuracy", 41.3826674, 96.66),
    Reference("qbe", "mtwv", 0.58, 7.36),
    Reference("sf", "slot_type_f1", 69.64, 89.81),
    Reference("sf", "slot_value_cer", 52.94, 21.76),
    Reference("ic", "accuracy", 9.649354219, 98.76),
    Reference("sid", "accuracy", 20.058174, 90.3),
    Reference("asv", "eer", 9.56, 5.11),
    Reference("sd", "der", 10.05, 5.62),
    Reference("er", "accuracy", 48.23672168, 67.62),
    Reference("st", "bleu", 2.32, 20.01),
    Reference("se", "pesq", 2.55, 2.64),
    Reference("se", "stoi", 93.6, 94.2),
    Reference("ss", "si_sdri", 9.2341, 10.4514),
)


def points(figures: Mapping[str, float]) -> dict[str, float]:
    """The points of each task whose metrics are all there: on the line from FBANK, 0, to the best of its day, 1000.

    Args:
        figures: by "task/metric", such as "sf/slot_value_cer", in the units of the leaderboard.
    Raises: ValueError for a name that is no figure of SUPERB, or for half a task.
    """
    known = {f"{reference.task}/{reference.metric}": reference for reference in REFERENCES}
    if unknown := figures.keys() - {*known, *COLUMNS}:  # the site shows asr/wer_lm, and leaves it out of the score
        raise ValueError(f"{min(unknown)} is no figure of SUPERB: those are {', '.join(known)}")
    found: dict[str, list[float]] = {}
    for name, (task, _, base, top) in known.items():
        if name in figures:
            found.setdefault(task, []).append(1000 * (figures[name] - base) / (top - base))
        elif any(given.startswith(f"{task}/") for given in figures):
            raise ValueError(f"{task} is scored by {name} too: add it")
    return {task: sum(gained) / len(gained) for task, gained in found.items()}


def overall(figures: Mapping[str, float], tasks: Sequence[str] = CORE) -> float:
    """The SUPERB score: the mean of the tasks' points; the site rounds it to a whole number.

    Args:
        figures: as for `points`; those of other tasks count for nothing.
    Raises: ValueError if a task is missing, as the site then gives no score either.
    """
    gained = points(figures)
    if missing := [task for task in tasks if task not in gained]:
        raise ValueError(f"no overall score without {', '.join(missing)}: evaluate them, or compare tasks one by one")
    return sum(gained[task] for task in tasks) / len(tasks)


class Row(NamedTuple):
    """A model on the leaderboard's public set."""

    model: str
    hop: int  # milliseconds
    parameters: int
    data: str  # pre-trained on: LS LibriSpeech, LL Libri-Light
    figures: tuple[float, ...]  # in the order of COLUMNS


COLUMNS = (
    *("pr/per", "ks/accuracy", "ic/accuracy", "sid/accuracy", "er/accuracy", "asr/wer", "asr/wer_lm", "qbe/mtwv"),
    *("sf/slot_type_f1", "sf/slot_value_cer", "asv/eer", "sd/der", "st/bleu", "se/pesq", "se/stoi", "ss/si_sdri"),
)

# fmt: off
ROWS = (
    Row("FBANK", 10, 0, "", (
        82.01, 41.3826674, 9.649354219, 20.058174, 48.23672168, 23.18, 15.21, 0.58,
        69.64, 52.94, 9.56, 10.05, 2.32, 2.55, 93.6, 9.2341)),
    Row("PASE+", 10, 7_832_896, "LS 50 hr", (
        58.87, 82.54, 29.82, 37.99, 57.86, 25.11, 16.62, 0.72,
        62.14, 60.17, 11.61, 8.68, 3.16, 2.56, 93.9, 9.87)),
    Row("APC", 10, 4_105_296, "LS 360 hr", (
        41.98, 91.01, 74.69, 60.42, 59.33, 21.28, 14.74, 3.1,
        70.46, 50.89, 8.56, 10.53, 5.95, 2.5567, 93.4, 8.92)),
    Row("VQ-APC", 10, 4_630_096, "LS 360 hr", (
        41.08, 91.11, 74.48, 60.15, 59.66, 21.2, 15.21, 2.51,
        68.53, 52.91, 8.72, 10.45, 4.23, 2.56, 93.4, 8.44)),
    Row("NPC", 10, 19_380_560, "LS 360 hr", (
        43.81, 88.96, 69.44, 55.92, 59.08, 20.2, 13.91, 2.46,
        72.79, 48.44, 9.4, 9.34, 4.32, 2.5211, 93.1, 8.04)),
    Row("Mockingjay", 10, 85_118_208, "LS 360 hr", (
        70.19, 83.67, 34.33, 32.29, 50.28, 22.82, 15.48, 0.066,
        61.59, 58.89, 11.66, 10.54, 4.45, 2.5305, 93.4, 9.29)),
    Row("TERA", 10, 21_327_360, "LS 960 hr", (
        49.17, 89.48, 58.42, 57.57, 56.27, 18.17, 12.16, 0.13,
        67.5, 54.17, 15.89, 9.96, 5.24, 2.5422, 93.6, 10.19)),
    Row("modified CPC", 10, 1_843_456, "LL 60k hr", (
        42.54, 91.88, 64.09, 39.63, 60.96, 20.18, 13.53, 3.26,
        71.19, 49.91, 12.86, 10.38, 4.82, 2.57, 93.7, 10.4)),
    Row("wav2vec", 10, 32_537_088, "LS 960 hr", (
        31.58, 95.59, 84.92, 56.56, 59.79, 15.86, 11.0, 4.85,
        76.37, 43.71, 7.99, 9.9, 6.61, 2.53, 93.8, 9.3)),
    Row("vq-wav2vec", 10, 34_145_408, "LS 960 hr", (
        33.48, 93.38, 85.68, 38.8, 58.24, 17.71, 12.8, 4.1,
        77.68, 41.54, 10.38, 9.93, 5.66, 2.48, 93.6, 8.16)),
    Row("wav2vec 2.0 Base", 20, 95_044_608, "LS 960 hr", (
        5.74, 96.23, 92.35, 75.18, 63.43, 6.43, 4.79, 2.33,
        88.3, 24.77, 6.02, 6.08, 14.81, 2.55, 93.9, 9.77)),
    Row("wav2vec 2.0 Large", 20, 317_390_592, "LL 60k hr", (
        4.75, 96.66, 95.28, 86.14, 65.64, 3.75, 3.1, 4.89,
        87.11, 27.31, 5.65, 5.62, 14.07, 2.52, 94.0, 10.02)),
    Row("HuBERT Base", 20, 94_697_600, "LS 960 hr", (
        5.41, 96.3, 98.34, 81.42, 64.92, 6.42, 4.79, 7.36,
        88.53, 25.2, 5.11, 5.88, 15.53, 2.58, 93.9, 9.36)),
    Row("HuBERT Large", 20, 316_609_408, "LL 60k hr", (
        3.53, 95.29, 98.76, 90.33, 67.62, 3.62, 2.94, 3.53,
        89.81, 21.76, 5.98, 5.75, 20.01, 2.64, 94.2, 10.45)),
    Row("DeCoAR 2.0", 10, 89_837_696, "LS 960 hr", (
        14.93, 94.48, 90.8, 74.42, 62.47, 13.02, 9.07, 4.06,
        83.28, 34.73, 7.16, 6.59, 9.94, 2.47, 93.2, 8.54)),
)
# fmt: on


def row(model: str) -> dict[str, float]:
    """A model's figures by name. Raises ValueError for one that is not on the leaderboard."""
    for found in ROWS:
        if found.model == model:
            return dict(zip(COLUMNS, found.figures, strict=True))
    raise ValueError(f"the leaderboard has no {model}: it has {', '.join(found.model for found in ROWS)}")
