# SPDX-License-Identifier: Apache-2.0
"""Random views of utterances, for objectives that compare two of them: a crop, a gain, a sign, and noise.

After BYOL-A's and COLA's pairs of segments of one clip (Niizumi et al. 2021, arXiv:2103.06695; Saeed et al. 2021,
arXiv:2010.10915), on waveforms. Shape letters: B rows, S samples.
"""

import dataclasses

import torch
from torch import Tensor

from ..ssl import draw
from ..ssl.objective import Views, ViewsConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpeechViewsConfig(ViewsConfig):
    """Settings of the views."""

    share: float = 0.6  # of each row that a view keeps; where it begins is drawn
    shortest: int = 8000  # samples that a view has at least, if the row has them
    gain: float = 6.0  # dB, up or down
    noise: tuple[float, float] = (10.0, 40.0)  # dB between speech and white noise

    def build(self) -> "SpeechViews":
        return SpeechViews(self)


class SpeechViews(Views):
    """Waveforms in, pieces of them out. A row's crop length follows from its length, so the host knows it."""

    def __init__(self, config: SpeechViewsConfig) -> None:
        self.config = config

    @torch.no_grad()
    def __call__(self, inputs: Tensor, lengths: Tensor | None, keys: Tensor, view: int) -> tuple[Tensor, Tensor | None]:
        """(B, S) float32 at 16 kHz to a shorter (B, S') with its lengths."""
        B, S = inputs.shape
        rows = torch.full((B,), S) if lengths is None else lengths
        kept = torch.maximum((rows * self.config.share).long(), rows.clamp(max=self.config.shortest))
        keys = draw.fold(draw.fold(keys, "view"), view)
        device = inputs.device
        rows_here, kept_here = (x.to(device, non_blocking=True)[:, None] for x in (rows, kept))
        start = draw.integers(draw.fold(keys, "start"), 1, rows_here - kept_here + 1)  # (B, 1)
        place = torch.arange(int(kept.max()), device=device)
        real = place < kept_here
        wave = inputs.gather(1, (start + place).clamp(max=S - 1)) * real
        u = draw.uniform(draw.fold(keys, "gain"), 3)
        low, high = self.config.noise
        power = wave.square().sum(1, keepdim=True) / kept_here
        noise_power = power * 10.0 ** (-(low + (high - low) * u[:, :1]) / 10.0)
        noise = draw.normal(draw.fold(keys, "noise"), wave.shape[1]) * noise_power.sqrt()
        gain = 10.0 ** (self.config.gain * (2.0 * u[:, 1:2] - 1.0) / 20.0)
        sign = torch.where(u[:, 2:] < 0.5, -1.0, 1.0)
        return (wave + noise) * real * gain * sign, kept
