# SPDX-License-Identifier: Apache-2.0
"""Encoders without weights that SUPERB's table begins with, as s3prl@ec8064b, upstream/baseline, computes them.

`mel` and `linear` come from its preprocessor.py: a centred STFT with reflected edges, HTK filters. s3prl reflects the
padded batch, so there a clip's last frames depend on its neighbours; here each clip is as it would be alone.
Shape letters: B rows, S samples, T frames, U width.
"""

import dataclasses
import math
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from ...speech.features import HOP, RATE, WINDOW, FeaturesConfig, normalize
from ...speech.waveforms import sample_counts
from ...ssl.config import Config
from ...ssl.encoder import FrontEnd, Units
from ...ssl.packing import Rows

# s3prl's names `fbank` and `mfcc` are normalised by utterance, pluri's are not and have other deltas (encoders.raw).
KALDI = {
    "fbank_no_cmvn": FeaturesConfig(normalize=False),  # 80 log filters and their deltas, twice: 240
    "fbank_cmvn": FeaturesConfig(),  # s3prl's fbank
    "mfcc_cmvn": FeaturesConfig(kind="mfcc", bins=23),  # s3prl's mfcc: 13 and their deltas, twice
}
OTHERS = ("mel", "linear", "waveform")
NAMES = (*KALDI, *OTHERS)
# Names that s3prl gives to other features: its fbank.yaml and mfcc.yaml have second deltas and use_cmvn.
_OTHERWISE = {
    "fbank": "fbank is pluri's: 80 log filters and their first deltas (160), not normalised; s3prl's fbank: fbank_cmvn",
    "mfcc": "mfcc is pluri's: 13 and their deltas, twice (39), not normalised; s3prl's mfcc: mfcc_cmvn",
}
_FLOOR = 1e-10  # added to power before the logarithm


def notes(encoder: str) -> list[str]:
    """What a reader of s3prl's tables must know of an encoder's name."""
    return [_OTHERWISE[encoder]] if encoder in _OTHERWISE else []


@dataclasses.dataclass(frozen=True, kw_only=True)
class BaselineConfig(Config):
    """Which features: log mel power (80) or log power (201), normalised by utterance, or the samples of each 10 ms."""

    kind: Literal["mel", "linear", "waveform"]

    @property
    def width(self) -> int:
        """U."""
        return {"mel": 80, "linear": WINDOW // 2 + 1, "waveform": HOP}[self.kind]


class Baseline(FrontEnd):
    """Frames as they are, one each 10 ms."""

    window: Tensor
    filters: Tensor

    def __init__(self, config: BaselineConfig) -> None:
        super().__init__()
        self.config = config
        self.width = self.unit_width = config.width
        filters = htk_filters(80) if config.kind == "mel" else torch.eye(WINDOW // 2 + 1)
        self.register_buffer("filters", filters, persistent=False)
        self.register_buffer("window", torch.hann_window(WINDOW), persistent=False)

    @torch.no_grad()
    def units(self, inputs: Tensor, lengths: Tensor | None = None) -> Units:
        """Waveforms (B, S) at 16 kHz to (B, T, U) float32."""
        samples = sample_counts(inputs, lengths)
        counts = self.unit_lengths(inputs, lengths)
        with torch.autocast(inputs.device.type, enabled=False):
            each = [self._row(row[:length].float()) for row, length in zip(inputs, samples, strict=True)]
            rows = Rows(counts.tolist(), int(counts.max()), inputs.device)
            x = torch.cat(each)
            if self.config.kind != "waveform":
                x = normalize(x, rows)
        return Units(rows.pad(x), counts)

    def _row(self, wave: Tensor) -> Tensor:
        """(S,) to (T, U)."""
        if self.config.kind == "waveform":
            return torch.nn.functional.pad(wave, (0, -len(wave) % HOP)).unflatten(0, (-1, HOP))
        wave = torch.nn.functional.pad(wave, (0, max(0, WINDOW // 2 + 1 - len(wave))))  # so much is reflected
        spectrum = torch.stft(
            wave, WINDOW, HOP, WINDOW, self.window, center=True, pad_mode="reflect", return_complex=True
        )
        power = spectrum.abs().square().T  # (T, F)
        return (power @ self.filters + _FLOOR).log()

    def embed(self, values: Tensor) -> Tensor:
        return values

    def unit_lengths(self, inputs: Tensor, lengths: Tensor | None) -> Tensor:
        samples = sample_counts(inputs, lengths)
        if self.config.kind == "waveform":
            return torch.tensor([-(-count // HOP) for count in samples])
        return torch.tensor([1 + max(count, WINDOW // 2 + 1) // HOP for count in samples])

    def save_assets(self, folder: Path) -> None:
        pass


def htk_filters(bins: int) -> Tensor:
    """(WINDOW / 2 + 1, bins): triangles even in mel = 2595 log10(1 + f / 700), of height 1, to half the rate."""
    top = 2595.0 * math.log10(1.0 + RATE / 2 / 700.0)
    edges = 700.0 * (10.0 ** (torch.linspace(0.0, top, bins + 2, dtype=torch.float64) / 2595.0) - 1.0)
    at = torch.linspace(0.0, RATE / 2, WINDOW // 2 + 1, dtype=torch.float64)[:, None]
    up = (at - edges[:-2]) / (edges[1:-1] - edges[:-2])
    down = (edges[2:] - at) / (edges[2:] - edges[1:-1])
    return torch.minimum(up, down).clamp(min=0.0).float()
