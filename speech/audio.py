# SPDX-License-Identifier: Apache-2.0
"""Reading audio: any file that libsndfile knows, any rate, any number of channels, to mono float32 at 16 kHz."""

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..ssl.data import BadItem

RATE = 16_000  # Hz


def probe(path: Path) -> tuple[int, int]:
    """Frames and rate that the header promises. Raises BadItem if there is no header to read."""
    import soundfile

    try:
        info = soundfile.info(str(path))
    except (soundfile.LibsndfileError, OSError, RuntimeError) as error:
        raise BadItem(f"no audio: {_one_line(error)}") from error
    if info.samplerate <= 0 or info.frames <= 0:
        raise BadItem(f"no audio: {info.frames} frames at {info.samplerate} Hz")
    return info.frames, info.samplerate


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text.split(": ", 1)[-1] if text.startswith("Error opening") else text


def read(path: Path, start: float = 0.0, seconds: float | None = None, shortest: float = 0.0) -> Tensor:
    """A piece of a file: mono (the mean of the channels), 16 kHz, float32 as stored, in [-1, 1] for integer formats.

    Args:
        start, seconds: the piece; None: to the end. Only the piece is decoded.
        shortest: seconds that must be there.
    Raises: BadItem if the file cannot be decoded, is shorter, or has samples that are not finite.
    """
    import soundfile

    try:
        with soundfile.SoundFile(str(path)) as file:
            rate = file.samplerate
            first = min(round(start * rate), file.frames)
            wanted = file.frames - first if seconds is None else min(round(seconds * rate), file.frames - first)
            file.seek(first)
            samples = file.read(wanted, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError, RuntimeError, MemoryError, ValueError) as error:
        raise BadItem(f"cannot be decoded: {_one_line(error)}") from error
    if len(samples) < wanted:
        raise BadItem(f"cut off: {len(samples)} frames where its header promises {wanted}")
    if len(samples) < max(1.0, shortest * rate):
        raise BadItem(f"too short: {len(samples) / rate:.4f} seconds")
    if not np.isfinite(samples).all():
        raise BadItem("has samples that are not finite")
    return resample(torch.from_numpy(samples.mean(axis=1)), rate)


def resample(wave: Tensor, rate: int) -> Tensor:
    """(S,) at `rate` to 16 kHz, by torchaudio's windowed sinc interpolation with its default width."""
    if rate == RATE:
        return wave
    from .features import torchaudio_module

    common = math.gcd(rate, RATE)
    return torchaudio_module().functional.resample(wave, rate // common, RATE // common)
