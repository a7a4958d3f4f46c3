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
from ..ssl.linear import Linear
from .corpus import AudioDataset
from .waveforms import sample_counts

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


class _FirstLayer(torch.autograd.Function):
    """GELU of a convolution of the waveform whose weights differ from row to row, on (S,) to (F, C).

    Worked off in pieces that stay in a CPU's cache; only the output is kept, and what stood before the GELU, ten
    products a number, is computed again in the backward pass.
    """

    @staticmethod
    def forward(  # noqa: ANN205
        ctx,  # noqa: ANN001  torch's own
        signal: Tensor,
        weight: Tensor,
        bias: Tensor,
        spans: list[tuple[int, int]],
        dtype: torch.dtype,
    ):
        """weight (B, C, kernel), bias (B, C), and each row's first frame and its number of valid ones."""
        windows = signal.unfold(0, KERNELS[0], STRIDES[0])  # (F, kernel)
        total = len(signal) // STRIDES[0]
        out = torch.empty(total, weight.shape[1], dtype=dtype, device=signal.device)
        ends = [*(start for start, _ in spans[1:]), total]
        for row, ((start, count), end) in enumerate(zip(spans, ends, strict=True)):
            for part in _pieces(start, count, signal.device):
                out[part] = F.gelu(torch.addmm(bias[row], windows[part], weight[row].T))
            out[start + count : end] = 0.0
        ctx.save_for_backward(signal, weight, bias)
        ctx.spans = spans
        return out

    @staticmethod
    def backward(ctx, gradient: Tensor):  # noqa: ANN001, ANN205  # pyright: ignore
        signal, weight, bias = ctx.saved_tensors
        windows = signal.unfold(0, KERNELS[0], STRIDES[0])
        B, C, taps = weight.shape
        to_weight = weight.new_zeros(B, taps, C)  # with taps as columns MKL takes four times as long
        to_bias = torch.zeros_like(bias)
        to_signal = torch.zeros_like(signal) if ctx.needs_input_grad[0] else None
        for row, (start, count) in enumerate(ctx.spans):
            for part in _pieces(start, count, signal.device):
                before = torch.addmm(bias[row], windows[part], weight[row].T)
                into = torch.ops.aten.gelu_backward(gradient[part].float(), before)
                to_weight[row].addmm_(windows[part].T, into)
                to_bias[row] += into.sum(0)
                if to_signal is not None:
                    of_taps = into @ weight[row]  # (frames, kernel)
                    for tap in range(KERNELS[0]):
                        first = part.start * STRIDES[0] + tap
                        to_signal[first : first + len(into) * STRIDES[0] : STRIDES[0]] += of_taps[:, tap]
        return to_signal, to_weight.transpose(1, 2), to_bias, None, None


def _pieces(start: int, count: int, device: torch.device) -> list[slice]:
    size = 4096 if device.type == "cpu" else max(1, count)  # frames
    return [slice(first, min(first + size, start + count)) for first in range(start, start + count, size)]


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


def _valid(x: Tensor, starts: list[int], counts: list[int]) -> Tensor:
    """The valid latents of all rows, out of (F, C); the gradient of one split is one copy, that of slices is not."""
    sizes = []
    for start, end, count in zip(starts, [*starts[1:], len(x) * STRIDE], counts, strict=True):
        sizes += [count, (end - start) // STRIDE - count]
    return torch.cat(x.split(sizes)[::2])


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
        self.project = Linear(config.channels, config.width)
        self.dropout = Dropout(config.dropout)

    def unit_lengths(self, inputs: Tensor, lengths: Tensor | None) -> Tensor:
        samples = sample_counts(inputs, lengths)
        return torch.tensor([frames(count) for count in samples])

    def units(self, inputs: Tensor, lengths: Tensor | None = None) -> Units:
        """Waveforms (B, S) float32 at 16 kHz to normalised latents (B, T, U), one each 20 ms.

        A row shorter than 400 samples (25 ms) is filled with zeros up to one latent.
        """
        samples = sample_counts(inputs, lengths)
        signal, starts = self._lay_out(inputs, samples)
        x = self._extract(signal, starts, samples)
        if self.training and self.config.gradient_scale != 1.0:
            x = torch.as_tensor(_Scale.apply(x, self.config.gradient_scale))
        counts = [frames(count) for count in samples]
        valid = _valid(x, starts, counts)  # (all latents, C)
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
            if i == 0 and self.group_weight is not None:
                x = self._normalised_first(signal, starts, samples)
            else:
                x = F.gelu(convolution(x))
        return x

    def _normalised_first(self, signal: Tensor, starts: list[int], samples: list[int]) -> Tensor:
        """The first layer with each channel of each row normalised over the row's own valid frames, and its GELU.

        Mean and variance of a channel follow from those of the ten samples of a window, so the norm is put into the
        layer's weights, a set for each row. In float64, since neighbouring samples are almost the same.
        """
        first = self.convolutions[0]
        assert isinstance(first, Convolution) and self.group_weight is not None and self.group_bias is not None
        kernel = first.weight[:, 0].double()  # (C, taps)
        weights, biases, spans = [], [], []
        for start, count in zip(starts, samples, strict=True):
            valid = frames(count, layers=1)
            spans.append((start // STRIDES[0], valid))
            row = signal[start : start + (valid - 1) * STRIDES[0] + KERNELS[0]].double()
            windows = row.unfold(0, KERNELS[0], STRIDES[0])  # (valid, taps)
            mean = windows.mean(0)
            centred = windows - mean
            spread = centred.T @ centred / valid  # (taps, taps)
            scale = self.group_weight * torch.rsqrt(((kernel @ spread) * kernel).sum(1) + 1e-5)  # (C,)
            weights.append(kernel * scale[:, None])
            biases.append(self.group_bias - (kernel @ mean) * scale)
        weight, bias = torch.stack(weights).float(), torch.stack(biases).float()
        if first.bias is not None:
            bias = bias + 0.0 * first.bias  # the norm takes it out again
        kind = signal.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else torch.float32
        with torch.autocast(kind, enabled=False):
            out = _FirstLayer.apply(signal, weight, bias, spans, dtype)
        assert isinstance(out, Tensor)
        return out

    def embed(self, values: Tensor) -> Tensor:
        return self.dropout(self.project(values))

    def save_assets(self, folder: Path) -> None:
        pass
