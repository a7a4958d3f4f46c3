# SPDX-License-Identifier: Apache-2.0
"""Writes and reads the prediction files of the ten core tasks that the SUPERB leaderboard scores.

Names and forms are those of superbbenchmark/website-react@cacb90e (backend/calculate.py) and of s3prl@ec8064b
(s3prl/submit/submit.py and the `expert.py` of each task). QbE's is written by `term_value.write_stdlist`.
Shape letters: T frames, H speakers.
"""

import csv
import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np

from ...ssl.tables import text_of
from .utterances import Parts

FILES = {  # below predict/, which is zipped
    "pr": "pr_public/predict.ark",
    "asr": "asr_public/predict.ark",
    "asr_lm": "asr_lm_public/predict.ark",
    "sf": "sf_public/predict.ark",
    "ks": "ks_public/predict.txt",
    "sid": "sid_public/predict.txt",
    **{f"er_fold{fold}": f"er_fold{fold}_public/predict.txt" for fold in range(1, 6)},
    "ic": "ic_public/predict.csv",
    "asv": "sv_public/predict.txt",
    "qbe": "qbe_public/benchmark.stdlist.xml",
    "sd": "sd_public",  # a folder: scoring/predictions/RECORDING.h5, and frame_shift
}


def name_of(task: str, path: Path) -> str:
    """What the leaderboard calls an utterance: mostly its file without ending.

    KS puts the folder before it and keeps the ending (yes-0a7c2a8d_nohash_0.wav), SID and ASV put speaker and video
    before it (id10270-x6uYqmx31kE-00001).
    """
    if task == "ks":
        return "-".join(path.parts[-2:])
    if task in ("sid", "asv"):
        return "-".join((*path.parts[-3:-1], path.stem))
    return path.stem


def need_writable(parts: Parts, separator: str) -> None:
    """Raises ValueError, with the audio, for test names, and for labels, that no prediction file can hold.

    Args:
        separator: what no name may hold.
    """
    for utterance in parts.test:
        _check(utterance.path, utterance.name, separator)
    for utterance in (*parts.train, *parts.test):
        if strange := [label for label in utterance.labels if not _plain(label)]:
            what = f"the label {strange[0]!r} is empty, or has breaks or spaces at its ends"
            raise ValueError(f"{utterance.path}: {what}: write it without them")


def write_pairs(path: Path, rows: Mapping[str, str]) -> None:
    """Writes a name and a text or a class in each line: PR, ASR, SF, KS, SID and ER; the text may be empty.

    Raises: ValueError for names or texts that would not be read back.
    """
    for name, text in rows.items():
        _check(path, name, " ")
        if text != text.strip() or len(text.splitlines()) > 1:
            raise ValueError(f"{path}: {name} has a text with line breaks or spaces at its ends: {text!r}")
    _write(path, [f"{name} {text}" for name, text in rows.items()])


def read_pairs(path: Path) -> dict[str, str]:
    """What `write_pairs` wrote. Raises ValueError, with the line, for a name that comes twice."""
    return _read(path, " ")


def write_scores(path: Path, scores: Sequence[tuple[str, str, float]]) -> None:
    """Writes ASV: both names of each trial joined by "_", and the score, as often as a list names the trial.

    Raises: ValueError for scores that are not finite, or names that would not be read back.
    """
    for first, second, score in scores:
        _check(path, f"{first}_{second}", " ")
        if not np.isfinite(score):
            raise ValueError(f"{path}: {first} and {second} have the score {score}: it must be finite")
    _write(path, [f"{first}_{second} {float(score)!r}" for first, second, score in scores])


def read_scores(path: Path) -> dict[str, float]:
    """The scores of trials, by both names joined by "_". Raises ValueError for anything that is no number."""
    found = {}
    for name, text in _read(path, " ").items():
        try:
            found[name] = float(text)
        except ValueError as error:
            raise ValueError(f"{path}: {name} has the score {text!r}, which is no number") from error
    return found


def write_intents(path: Path, rows: Mapping[str, tuple[str, str, str]]) -> None:
    """Writes IC: name, action, object, location, in quotes where one has a comma or a quote, as none officially has.

    Raises: ValueError for names or values that would not be read back.
    """
    for name, slots in rows.items():
        _check(path, name, "\n")
        if len(slots) != 3 or not all(map(_plain, slots)):
            raise ValueError(f"{path}: {name} needs action, object and location, each in one line: {slots}")
    lines = io.StringIO()
    csv.writer(lines, lineterminator="\n").writerows((name, *slots) for name, slots in rows.items())
    _write(path, lines.getvalue().splitlines())


def read_intents(path: Path) -> dict[str, tuple[str, str, str]]:
    """Action, object and location of each name.

    Raises: ValueError for another number of columns, or a name that comes twice.
    """
    found = {}
    rows = csv.reader(line.strip() for line in text_of(path).split("\n"))
    for name, *slots in filter(None, rows):
        if len(slots) != 3:
            raise ValueError(f"{path}: {name} has {len(slots)} slots, not action, object and location")
        if name in found:
            raise ValueError(f"{path}, line {rows.line_num}: {name} comes twice")
        found[name] = (slots[0], slots[1], slots[2])
    return found


def write_activity(folder: Path, probabilities: Mapping[str, np.ndarray], frame_shift: int) -> None:
    """Writes SD: each recording's probabilities (T, H) as HDF5, and the samples (16 kHz) between frames.

    Raises: ValueError without h5py, or for arrays of another form.
    """
    h5py = _h5py()
    inside = folder / "scoring" / "predictions"
    inside.mkdir(parents=True, exist_ok=True)
    for name, frames in probabilities.items():
        _check(folder, name, "/")
        if frames.ndim != 2:
            raise ValueError(f"{folder}: {name} has {frames.ndim} dimensions, not frames and speakers")
        with h5py.File(inside / f"{name}.h5", "w") as file:
            file.create_dataset("T_hat", data=frames)
    (folder / "frame_shift").write_text(f"{frame_shift}\n", encoding="utf-8")


def read_activity(folder: Path) -> tuple[dict[str, np.ndarray], int]:
    """The probabilities (T, H) of each recording, and the samples between frames. Raises ValueError if they lack."""
    h5py = _h5py()
    found = {}
    for path in sorted((folder / "scoring" / "predictions").glob("*.h5")):
        with h5py.File(path, "r") as file:
            if "T_hat" not in file:
                raise ValueError(f"{path} has no T_hat: write it with write_activity")
            found[path.stem] = np.asarray(file["T_hat"])
    shift = folder / "frame_shift"
    if not found or not shift.is_file():
        raise ValueError(f"{folder} needs scoring/predictions/*.h5 and frame_shift")
    if not text_of(shift).strip().isdecimal():
        raise ValueError(f"{shift} must hold the samples between frames, such as 320")
    return found, int(text_of(shift))


def pack(folder: Path) -> Path:
    """Zips folder/predict as the leaderboard takes it. Raises ValueError if it holds none of the files."""
    inside = folder / "predict"
    files = sorted(path for path in inside.rglob("*") if path.is_file())
    if not any((inside / name).exists() for name in FILES.values()):
        raise ValueError(f"{inside} holds no prediction: write at least one of {', '.join(FILES.values())}")
    with zipfile.ZipFile(folder / "predict.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        for path in files:
            packed.write(path, path.relative_to(folder))
    return folder / "predict.zip"


def _plain(text: str) -> bool:
    return text == text.strip() and len(text.splitlines()) == 1


def _check(path: Path, name: str, separator: str) -> None:
    if separator in name or not _plain(name):
        raise ValueError(
            f"{path}: {name!r} cannot be a name there: it is empty, or has spaces, breaks or {separator!r}"
        )


def _write(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _read(path: Path, separator: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for number, line in enumerate(text_of(path).split("\n"), start=1):
        if not line.strip():
            continue
        name, _, text = line.strip().partition(separator)
        if name in found:
            raise ValueError(f"{path}, line {number}: {name} comes twice")
        found[name] = text
    return found


def _h5py() -> ModuleType:
    try:
        import h5py  # pyright: ignore[reportMissingImports]  an extra
    except ImportError as error:
        raise ValueError("the leaderboard takes diarization as HDF5: pip install h5py to write it") from error
    return h5py
