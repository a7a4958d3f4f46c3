# SPDX-License-Identifier: Apache-2.0
"""Spectral features of a whole batch at once, on any device: Kaldi's log filter bank and MFCC, log mel, log spectrum.

Equal to torchaudio.compliance.kaldi (fbank, mfcc) and librosa (mel spectrogram). Frames of all rows lie back to back,
so nothing is computed on padding, and a row's deltas and statistics see the row alone.
Shape letters: B rows, S samples, N frames of all rows, T frames of the longest row, U features.
"""

import dataclasses
import math
from types import ModuleType
from typing import Literal

import torch
from torch import Tensor, nn

from ..ssl.config import Config
from ..ssl.packing import Rows
from .waveforms import sample_counts

RATE = 16_000  # Hz
WINDOW, HOP = 400, 160  # samples: 25 ms, 10 ms
_KALDI = ("fbank", "mfcc")
_FLOOR = torch.finfo(torch.float32).eps  # Kaldi's, under the logarithm


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeaturesConfig(Config):
    """Which features. Defaults: s3prl's for Mockingjay, 80 Kaldi filters with two orders of deltas, normalised."""

    kind: Literal["fbank", "mfcc", "log_mel", "log_spectrum"] = "fbank"
    bins: int = 80  # filters; mfcc: 23 in s3prl; log_spectrum has 201 whatever this says
    cepstra: int = 13  # of mfcc
    deltas: int = 2  # orders, 0 to 2
    normalize: bool = True  # each feature of each row to zero mean and unit variance (CMVN)

    def build(self) -> "Features":
        if not 0 <= self.deltas <= 2:
            raise ValueError(f"features.deltas must be 0, 1 or 2, got {self.deltas}")
        return Features(self)

    @property
    def width(self) -> int:
        """U."""
        base = {"mfcc": self.cepstra, "log_spectrum": WINDOW // 2 + 1}.get(self.kind, self.bins)
        return base * (1 + self.deltas)


class Features(nn.Module):
    """Waveforms to features, in float32 and without gradient."""

    window: Tensor
    filters: Tensor
    cosines: Tensor

    def __init__(self, config: FeaturesConfig) -> None:
        super().__init__()
        self.config = config
        self.kaldi = config.kind in _KALDI
        hann = torch.hann_window(WINDOW, periodic=not self.kaldi)
        window = hann**0.85 if self.kaldi else hann  # Kaldi's Povey window
        size = 512 if self.kaldi else WINDOW
        filters = torch.eye(WINDOW // 2 + 1)
        if config.kind != "log_spectrum":
            filters = kaldi_filters(config.bins, size) if self.kaldi else slaney_filters(config.bins, size)
        self.size = size
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("filters", filters, persistent=False)
        self.register_buffer("cosines", lifted_cosines(config.bins, config.cepstra), persistent=False)

    def count(self, samples: int) -> int:
        """Frames of a row. Kaldi's features hold whole windows only, the others one frame a hop; at least one each."""
        return 1 + max(0, samples - WINDOW) // HOP if self.kaldi else 1 + samples // HOP

    @torch.no_grad()
    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Waveforms (B, S) at 16 kHz in [-1, 1] to features (B, T, U), zero on padding, and frames (B,) on the CPU.

        Rows shorter than a window are filled with zeros.
        """
        samples = sample_counts(inputs, lengths)
        counts = [self.count(length) for length in samples]
        rows = Rows(counts, max(counts), inputs.device)
        with torch.autocast(inputs.device.type, enabled=False):
            x = self._spectra(inputs.float(), samples, rows)
            for order in range(self.config.deltas):
                width = x.shape[1] // (order + 1)
                x = torch.cat([x, deltas(x[:, -width:], rows)], dim=1)
            if self.config.normalize:
                x = normalize(x, rows)
        return rows.pad(x), torch.tensor(counts)

    def _spectra(self, inputs: Tensor, samples: list[int], rows: Rows) -> Tensor:
        """(N, bins) log features of every frame."""
        end = torch.tensor(samples).to(inputs.device, non_blocking=True)[:, None]
        inputs = inputs.masked_fill(torch.arange(inputs.shape[1], device=inputs.device) >= end, 0.0)
        before = 0 if self.kaldi else WINDOW // 2
        need = (rows.longest - 1) * HOP + WINDOW
        inputs = nn.functional.pad(inputs, (before, max(0, need - before - inputs.shape[1])))
        frames = inputs.unfold(1, WINDOW, HOP)[rows.row, rows.position]  # (N, window)
        if self.kaldi:
            frames = frames - frames.mean(1, keepdim=True)
            frames = frames - 0.97 * torch.cat([frames[:, :1], frames[:, :-1]], dim=1)
        power = torch.fft.rfft(frames * self.window, n=self.size).abs().square()
        bands = power[:, : self.filters.shape[0]] @ self.filters
        if self.kaldi:
            x = bands.clamp(min=_FLOOR).log()
            return x @ self.cosines if self.config.kind == "mfcc" else x
        return bands.clamp(min=1e-10).log()


def deltas(x: Tensor, rows: Rows) -> Tensor:
    """(N, U): the slope over five frames, edges repeated (torchaudio.functional.compute_deltas, win_length 5)."""
    last = torch.tensor(rows.lengths).to(x.device, non_blocking=True)[rows.row] - 1
    first = rows.offsets[rows.row]

    def at(offset: int) -> Tensor:
        place = torch.minimum((rows.position + offset).clamp(min=0), last)
        return x.index_select(0, first + place)

    return (at(1) - at(-1) + 2.0 * (at(2) - at(-2))) / 10.0


def normalize(x: Tensor, rows: Rows) -> Tensor:
    """(N, U): each row's features less their mean, over their standard deviation (unbiased, as s3prl; 1e-10 added)."""
    centred = x - rows.mean(x)[rows.row]
    centred = centred - rows.mean(centred)[rows.row]  # else a constant row would be its rounding over itself
    count = torch.tensor(rows.lengths, dtype=torch.float32).to(x.device, non_blocking=True)[:, None]
    variance = rows.mean(centred.square()) * count / (count - 1.0).clamp(min=1.0)
    return centred / (variance.sqrt() + 1e-10)[rows.row]


def kaldi_filters(bins: int, size: int, low: float = 20.0, high: float = RATE / 2) -> Tensor:
    """(size / 2, bins): triangles that are even in mel = 1127 ln(1 + f / 700), as Kaldi's; without the Nyquist bin."""

    first, last = (1127.0 * math.log1p(hertz / 700.0) for hertz in (low, high))
    edges = torch.linspace(first, last, bins + 2, dtype=torch.float64)
    at = 1127.0 * torch.log1p(torch.arange(size // 2, dtype=torch.float64) * RATE / size / 700.0)[:, None]
    up = (at - edges[:-2]) / (edges[1:-1] - edges[:-2])
    down = (edges[2:] - at) / (edges[2:] - edges[1:-1])
    return torch.minimum(up, down).clamp(min=0.0).float()


def slaney_filters(bins: int, size: int) -> Tensor:
    """(size / 2 + 1, bins): librosa.filters.mel's default: linear below 1 kHz, logarithmic above, of equal area."""
    step = math.log(6.4) / 27.0
    top = 15.0 + math.log(RATE / 2 / 1000.0) / step
    mels = torch.linspace(0.0, top, bins + 2, dtype=torch.float64)
    edges = torch.where(mels < 15.0, mels * 200.0 / 3.0, 1000.0 * torch.exp(step * (mels - 15.0)))
    at = torch.arange(size // 2 + 1, dtype=torch.float64)[:, None] * RATE / size
    up = (at - edges[:-2]) / (edges[1:-1] - edges[:-2])
    down = (edges[2:] - at) / (edges[2:] - edges[1:-1])
    return (torch.minimum(up, down).clamp(min=0.0) * 2.0 / (edges[2:] - edges[:-2])).float()


def lifted_cosines(bins: int, cepstra: int, lifter: float = 22.0) -> Tensor:
    """(bins, cepstra): the orthonormal cosine transform with Kaldi's liftering."""
    n = torch.arange(bins, dtype=torch.float64)[:, None]
    k = torch.arange(cepstra, dtype=torch.float64)
    table = torch.cos(math.pi / bins * (n + 0.5) * k) * math.sqrt(2.0 / bins)
    table[:, 0] = math.sqrt(1.0 / bins)
    return (table * (1.0 + lifter / 2.0 * torch.sin(math.pi * k / lifter))).float()


def torchaudio_module() -> ModuleType:
    """torchaudio, which is imported only where it is used. Raises ImportError that says which pair to install."""
    try:
        import torchaudio
        import torchaudio.functional
    except (ImportError, OSError, RuntimeError) as error:
        raise ImportError(
            f"torchaudio does not import beside torch {torch.__version__} ({type(error).__name__}). Pairs that work: "
            f"torch 2.9.1 with torchaudio 2.9.1; torch 2.11 to 2.14 with torchaudio 2.11.0. See `pluri doctor`."
        ) from error
    return torchaudio
