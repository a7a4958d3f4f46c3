# SPDX-License-Identifier: Apache-2.0
"""Waveforms to latents: the convolutional extractor of wav2vec 2.0 and HuBERT (Baevski et al. 2020, arXiv:2006.11477).

All rows of a batch lie in one long signal, each beginning at a multiple of the total stride, and no layer looks at
padding. In the layout (frames, channels) every layer is one or two matrix products on views of the layer before.
Windows that reach from one row into the next make frames that lie behind the row's last valid one, and are dropped.
Shape letters: B rows, S samples, F frames of a layer, C channels, T latents, U latent width, D width.
"""

import dataclasses
import math
from pathlib import Path
from typing import Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..ssl.dropout import Dropout
from ..ssl.encoder import FrontEnd, FrontEndConfig, Units
from .corpus import AudioDataset

KERNELS = (10, 3, 3, 3, 3, 2, 2)
STRIDES = (5, 2, 2, 2, 2, 2, 2)
STRIDE = math.prod(STRIDES)  # 320 samples, 20 ms
WINDOW = 400  # samples that the first latent sees, 25 ms


def frames(samples: int, layers: int = len(KERNELS)) -> int:
    """Frames that the first `layers` layers make of a row; a row shorter than the window is filled up to it."""
    length = max(samples, WINDOW)
    for kernel, stride in zip(KERNELS[:layers], STRIDES[:layers], strict=True):
        length = (length - kernel) // stride + 1
    return length


@dataclasses.dataclass(frozen=True, kw_only=True)
class WaveFrontEndConfig(FrontEndConfig):
    """Settings of the waveform front end. Defaults: wav2vec 2.0 base."""

    norm: Literal["group", "layer"] = "group"  # base: the first layer, each channel over time; large: every layer
    bias: bool = False  # of the convolutions; large: True
    channels: int = 512
    width: int = 768
    dropout: float = 0.1  # of the projected latents
    gradient_scale: float = 0.1  # what the extractor gets of its gradient; large: 1
    normalize: bool = False  # zero mean and unit variance of each row's waveform; large: True

    def build(self, assets: Path | None = None) -> "WaveFrontEnd":
        return WaveFrontEnd(self)

    def fitted(self, dataset: object) -> Self:
        if not isinstance(dataset, AudioDataset):
            raise ValueError("this recipe is for speech: set data to a folder of audio")
        return self


class _Scale(torch.autograd.Function):
    """The identity, whose gradient is scaled."""

    @staticmethod
    def forward(ctx, x: Tensor, scale: float) -> Tensor:  # noqa: ANN001  torch's own
        ctx.scale = scale
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:  # noqa: ANN001  # pyright: ignore
        return gradient * ctx.scale, None


class _PairConvolution(torch.autograd.Function):
    """A convolution of stride 2 over frames (F, C in), with 2 or 3 taps, as matrix products on views of its input.

    Pairs of frames are the rows of a reshape; a third tap reads every second frame. Written out because torch's own
    gradient of a slice fills and adds whole tensors, a fifth of the extractor's time.
    """

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor) -> Tensor:  # noqa: ANN001  torch's own
        ctx.save_for_backward(x, weight)
        count = (len(x) - weight.shape[2]) // 2 + 1
        taps = weight.transpose(1, 2)  # (C out, taps, C in)
        out = x[: 2 * count].view(count, -1) @ taps[:, :2].flatten(1).T
        if weight.shape[2] == 3:
            out.addmm_(x[2 : 2 * count + 1 : 2], taps[:, 2].T)
        return out

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ANN001  # pyright: ignore
        x, weight = ctx.saved_tensors
        gradient = gradient.contiguous()
        count, width = len(gradient), x.shape[1]
        taps = weight.transpose(1, 2)
        into = torch.empty_like(x)
        torch.mm(gradient, taps[:, :2].flatten(1), out=into[: 2 * count].view(count, -1))
        into[2 * count :] = 0.0
        pairs = gradient.T @ x[: 2 * count].view(count, -1)  # (C out, 2 C in)
        of_taps = [pairs[:, :width], pairs[:, width:]]
        if weight.shape[2] == 3:
            into[2 : 2 * count + 1 : 2].addmm_(gradient, taps[:, 2])
            of_taps.append(gradient.T @ x[2 : 2 * count + 1 : 2])
        return into, torch.stack(of_taps, dim=2)


class Convolution(nn.Module):
    """One layer of the extractor on frames (F, C); the weight is stored as published, (C out, C in, kernel)."""

    def __init__(self, before: int, channels: int, kernel: int, stride: int, bias: bool, layer_norm: bool) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride
        self.weight = nn.Parameter(torch.empty(channels, before, kernel))
        nn.init.kaiming_normal_(self.weight)
        self.bias = nn.Parameter(torch.zeros(channels)) if bias else None
        self.norm = nn.LayerNorm(channels) if layer_norm else None

    def forward(self, x: Tensor) -> Tensor:
        """(F, C in) to (F', C out), before the non-linearity."""
        if x.shape[1] == 1:  # the waveform: ten samples a window, copied
            out = F.linear(x[:, 0].unfold(0, self.kernel, self.stride), self.weight[:, 0], self.bias)
        else:
            weight = self.weight
            if torch.is_autocast_enabled(x.device.type):
                dtype = torch.get_autocast_dtype(x.device.type)
                x, weight = x.to(dtype), weight.to(dtype)
            out = _PairConvolution.apply(x, weight)
            assert isinstance(out, Tensor)
            out = out if self.bias is None else out + self.bias.to(out.dtype)
        return out if self.norm is None else self.norm(out)


def _rows(x: Tensor, starts: list[int], counts: list[int], stride: int) -> list[Tensor]:
    """Frames (F, C) of all rows in pieces: each row's `counts` valid ones, and what follows them, in turn.

    Cut in one split, whose gradient is one copy; that of a slice fills and adds a tensor as large as the whole.
    """
    ends = [*(start // stride for start in starts[1:]), len(x)]
    sizes = []
    for start, end, count in zip(starts, ends, counts, strict=True):
        sizes += [count, end - start // stride - count]
    return list(x.split(sizes))


class WaveFrontEnd(FrontEnd):
    """Seven convolutions, a layer norm (whose output are the units), and a projection."""

    def __init__(self, config: WaveFrontEndConfig) -> None:
        super().__init__()
        self.config = config
        self.width = config.width
        self.unit_width = config.channels
        before = [1, *[config.channels] * (len(KERNELS) - 1)]
        self.convolutions = nn.ModuleList(
            Convolution(width, config.channels, kernel, stride, config.bias, config.norm == "layer")
            for width, kernel, stride in zip(before, KERNELS, STRIDES, strict=True)
        )
        grouped = config.norm == "group"
        self.group_weight = nn.Parameter(torch.ones(config.channels)) if grouped else None
        self.group_bias = nn.Parameter(torch.zeros(config.channels)) if grouped else None
        self.norm = nn.LayerNorm(config.channels)
        self.project = nn.Linear(config.channels, config.width)
        self.dropout = Dropout(config.dropout)

    def unit_lengths(self, inputs: Tensor, lengths: Tensor | None) -> Tensor:
        samples = [inputs.shape[1]] * len(inputs) if lengths is None else lengths.tolist()
        return torch.tensor([frames(count) for count in samples])

    def units(self, inputs: Tensor, lengths: Tensor | None = None) -> Units:
        """Waveforms (B, S) float32 at 16 kHz to normalised latents (B, T, U), one each 20 ms.

        A row shorter than 400 samples (25 ms) is filled with zeros up to one latent.
        """
        samples = [inputs.shape[1]] * len(inputs) if lengths is None else lengths.tolist()
        signal, starts = self._lay_out(inputs, samples)
        x = self._extract(signal, starts, samples)
        if self.training and self.config.gradient_scale != 1.0:
            x = torch.as_tensor(_Scale.apply(x, self.config.gradient_scale))
        counts = [frames(count) for count in samples]
        valid = torch.cat(_rows(x, starts, counts, STRIDE)[::2])  # (all latents, C)
        energy = valid.float().square().mean() if self.training else None
        values = self.norm(valid).split(counts)
        return Units(nn.utils.rnn.pad_sequence(values, batch_first=True), torch.tensor(counts), energy)

    def _lay_out(self, inputs: Tensor, samples: list[int]) -> tuple[Tensor, list[int]]:
        """One signal that holds all rows, and where each begins; a row takes its samples and under a stride more."""
        pieces, starts, end = [], [], 0
        for row, count in zip(inputs, samples, strict=True):
            wave = row[:count].float()
            if self.config.normalize:
                wave = (wave - wave.mean()) * torch.rsqrt(wave.var(correction=0) + 1e-7)
            room = -(-max(count, WINDOW) // STRIDE) * STRIDE
            pieces.append(F.pad(wave, (0, room - count)))
            starts.append(end)
            end += room
        return torch.cat(pieces), starts

    def _extract(self, signal: Tensor, starts: list[int], samples: list[int]) -> Tensor:
        """(S,) to (F, C), all rows in one."""
        x = signal[:, None]
        for i, convolution in enumerate(self.convolutions):
            x = convolution(x)
            if i == 0 and self.group_weight is not None:
                x = self._group_norm(x, starts, samples)
            x = F.gelu(x)
        return x

    def _group_norm(self, x: Tensor, starts: list[int], samples: list[int]) -> Tensor:
        """Each channel of each row normalised over the row's own valid frames: batch norm of them is just that."""
        counts = [frames(count, layers=1) for count in samples]
        pieces = _rows(x, starts, counts, STRIDES[0])
        for i in range(0, len(pieces), 2):
            pieces[i] = F.batch_norm(pieces[i], None, None, self.group_weight, self.group_bias, training=True)
            pieces[i + 1] = torch.zeros_like(pieces[i + 1])
        return torch.cat(pieces)

    def embed(self, values: Tensor) -> Tensor:
        return self.dropout(self.project(values))

    def save_assets(self, folder: Path) -> None:
        pass
