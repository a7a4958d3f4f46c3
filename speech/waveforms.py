# SPDX-License-Identifier: Apache-2.0
"""What every front end of speech takes: padded waveforms, and how much of each row is real."""

from torch import Tensor

from ..ssl.packing import row_lengths


def sample_counts(waveforms: Tensor, lengths: Tensor | None) -> list[int]:
    """Samples of each row.

    Args:
        waveforms: (B, S) floats at 16 kHz, from -1 to 1. lengths: (B,) int64 on the CPU; None: all S.
    Raises: ValueError for what is no such batch, such as the 16-bit numbers of a file; as `row_lengths`.
    """
    counts = row_lengths(waveforms, lengths)
    if waveforms.ndim != 2 or not waveforms.is_floating_point():
        found = f"{waveforms.dtype} of {tuple(waveforms.shape)}"
        raise ValueError(f"waveforms are floats (B, S) at 16 kHz, from -1 to 1, not {found}")
    return counts
