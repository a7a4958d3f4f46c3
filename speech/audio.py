# SPDX-License-Identifier: Apache-2.0
"""Reading audio: any file that libsndfile knows, any rate, any number of channels, to mono float32 at 16 kHz."""

import math
import os
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from ..ssl.data import BadItem

RATE = 16_000  # Hz
_LITTLE, _BIG = (b"RIFF", b"RF64", b"BW64"), (b"RIFX", b"FORM")  # WAV and AIFF, by the order of their bytes
_UNKNOWN = 0x7F000000  # bytes; sizes from here on, and 0, are what writers to a pipe leave: ffmpeg, sox, arecord
_PAGE = 65_307  # bytes: the longest of Ogg
_CHUNKS = 100  # before the samples; more are not looked through


def probe(path: Path) -> tuple[int, int]:
    """Frames and rate that the header promises. Raises BadItem if there is no header to read, or for a file cut off."""
    import soundfile

    try:
        info = soundfile.info(str(path))
    except (soundfile.LibsndfileError, OSError, RuntimeError) as error:
        raise BadItem(f"no audio: {_one_line(error, path)}") from error
    _need_whole(path)
    if info.samplerate <= 0 or info.frames <= 0:
        raise BadItem(f"no audio: {info.frames} frames at {info.samplerate} Hz")
    return info.frames, info.samplerate


def _one_line(error: BaseException, path: Path) -> str:
    text = " ".join(str(error).split())
    if "File does not exist" in text and path.is_file():  # libsndfile of MPEG that it cannot make out
        return "Format not recognised."
    return text.split(": ", 1)[-1] if text.startswith("Error opening") else text


def read(path: Path, start: float = 0.0, seconds: float | None = None, shortest: float = 0.0) -> Tensor:
    """A piece of a file: mono (the mean of the channels), 16 kHz, float32 as stored, in [-1, 1] for integer formats.

    Args:
        start, seconds: the piece; None: to the end. Only the piece is decoded.
        shortest: seconds that must be there.
    Raises: BadItem if the file cannot be decoded, is cut off, is shorter, or has samples that are not finite.
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
        raise BadItem(f"cannot be decoded: {_one_line(error, path)}") from error
    _need_whole(path)
    if len(samples) < wanted:
        raise BadItem(f"cut off: {len(samples)} frames where its header promises {wanted}")
    if len(samples) < max(1.0, shortest * rate):
        raise BadItem(f"too short: {len(samples) / rate:.4f} seconds")
    if not np.isfinite(samples).all():
        raise BadItem("has samples that are not finite")
    return resample(torch.from_numpy(samples.mean(axis=1)), rate)


def _need_whole(path: Path) -> None:
    """Raises BadItem for a WAV, AIFF or Ogg that is cut off: libsndfile takes what is there for the whole."""
    with path.open("rb") as file:
        kind, end = file.read(4), os.fstat(file.fileno()).st_size
        if kind in _LITTLE + _BIG:
            what, (there, promised) = "samples", _samples(file, end, kind)
        elif kind == b"OggS":
            what, (there, promised) = "its last page", _last_page(file, end)
        else:
            return
    if there < promised:
        raise BadItem(f"cut off: {there} bytes of {what} where its header promises {promised}")


def _samples(file: BinaryIO, end: int, kind: bytes) -> tuple[int, int]:
    """Bytes of samples that are there and that are promised; 0 where nothing is (RF64: EBU Tech 3306).

    Args:
        end: bytes of the file. kind: its first four bytes.
    """
    place, wide = 12, 0
    for _ in range(_CHUNKS):
        file.seek(place)
        name, size = file.read(4), int.from_bytes(file.read(4), "little" if kind in _LITTLE else "big")
        place += 8
        if name == b"ds64":
            wide = int.from_bytes(file.read(16)[8:], "little")
        elif name in (b"data", b"SSND"):
            before = 8 if name == b"SSND" else 0  # offset and block size stand before the samples
            known = wide if size == 0xFFFFFFFF else size if size < _UNKNOWN else 0
            return max(0, end - place - before), max(0, known - before) if known < 1 << 63 else 0
        place += size + size % 2
    return 0, 0


def _last_page(file: BinaryIO, end: int) -> tuple[int, int]:
    """Bytes of an Ogg's last page that are there and that its table promises (RFC 3533, section 6).

    That it ends the stream is not asked for, as recordings of live streams do not say so.
    """
    file.seek(max(0, end - _PAGE))
    tail = file.read()
    start = tail.rfind(b"OggS\0")
    if start < 0:
        return 0, 0
    page = tail[start:]
    segments = sum(page[26:27])
    return len(page), 27 + segments + sum(page[27 : 27 + segments])


def resample(wave: Tensor, rate: int) -> Tensor:
    """(S,) at `rate` to 16 kHz, by torchaudio's windowed sinc interpolation with its default width."""
    if rate == RATE:
        return wave
    from .features import torchaudio_module

    common = math.gcd(rate, RATE)
    return torchaudio_module().functional.resample(wave, rate // common, RATE // common)
