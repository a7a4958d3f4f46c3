# SPDX-License-Identifier: Apache-2.0
"""A wide grouped convolution by Fourier transforms, for a CPU: a twentieth of the direct one's operations.

Shape letters: S positions of all rows, D width, G groups, C = D / G channels of a group, K taps, N length of a
transform, M blocks.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def convolve(x: Tensor, lengths: Sequence[int], weight: Tensor, bias: Tensor | None, groups: int) -> Tensor:
    """conv1d with stride 1 of each row between zeros, by overlapping blocks (Stockham 1966, "overlap-save").

    A block belongs to one row, so that not even rounding, let alone what is not finite, reaches another.

    Args:
        x: (S, D), rows one after the other, taken as float32; lengths: of the rows, S together.
        weight: (D, C, K), as nn.Conv1d has it; bias (D,).

    Returns: (S, D) float32; an output reads K // 2 positions before its own and (K - 1) // 2 behind.
    """
    D, C, K = weight.shape
    N = 1 << (2 * K - 1).bit_length()
    step = N - K + 1  # outputs of a block that its wrapping round does not reach
    counts = [-(-length // step) for length in lengths]
    with torch.autocast(x.device.type, enabled=False):
        blocks = []
        for row, count in zip(x.float().split(list(lengths)), counts, strict=True):
            behind = count * step + K - 1 - K // 2 - len(row)
            blocks.append(F.pad(row, (0, 0, K // 2, behind)).unfold(0, N, step))  # (count, D, N)
        spectrum = torch.fft.rfft(torch.cat(blocks).transpose(1, 2), dim=1)  # (M, N / 2 + 1, D)
        taps = weight.float().view(groups, C, C, K).permute(3, 0, 2, 1)  # (K, G, C in, C out)
        response = torch.fft.rfft(taps, n=N, dim=0).conj()  # (N / 2 + 1, G, C in, C out); conj: taps run forwards
        apart = spectrum.unflatten(2, (groups, C)).permute(1, 2, 0, 3).flatten(0, 1)
        product = torch.bmm(apart, response.flatten(0, 1)).unflatten(0, (-1, groups))  # (N / 2 + 1, G, M, C)
        out = torch.fft.irfft(product.permute(2, 0, 1, 3).flatten(2), n=N, dim=1)[:, :step]  # (M, step, D)
        parts = zip(out.split(counts), lengths, strict=True)
        whole = torch.cat([part.flatten(0, 1)[:length] for part, length in parts])
        return whole if bias is None else whole + bias.float()
