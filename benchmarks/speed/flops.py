# SPDX-License-Identifier: Apache-2.0
"""Floating-point operations that a forward pass needs by its mathematics: products of real positions only.

A multiplication and its addition count as two. Backward needs twice as many as forward. Norms, softmax and other work
that is not a matrix product are left out, as is the custom where a model's FLOPs are set against a machine's peak.
"""

from collections.abc import Sequence

from ...speech.frontend import KERNELS, WaveFrontEndConfig, frames
from ...ssl.blocks import EncoderConfig
from ...ssl.positions import ConvolutionalPositionsConfig


def linear_flops(before: int, after: int) -> float:
    """Of a linear layer, for each position."""
    return 2.0 * before * after


def encoder_flops(config: EncoderConfig, lengths: Sequence[int], wanted: Sequence[int] | None = None) -> float:
    """Of the encoder, for rows of these lengths.

    Args:
        wanted: of how many positions of each row the output is needed; None: of all. The last block computes keys and
            values of all, and everything else for the wanted ones.
    """
    width, total = config.width, sum(lengths)
    mlp = linear_flops(width, config.hidden) * (1.5 if config.mlp == "geglu" else 1.0) * 2
    projections = 4 * linear_flops(width, width)
    blocks = config.depth * (total * (projections + mlp) + sum(4.0 * width * length**2 for length in lengths))
    if wanted is not None:
        for length, few in zip(lengths, wanted, strict=True):
            blocks -= (length - few) * (mlp + projections / 2 + 4.0 * width * length)
    if isinstance(config.positions, ConvolutionalPositionsConfig):
        positions = total * linear_flops(width, width // config.positions.groups) * config.positions.kernel
    else:
        positions = 0.0
    return blocks * (1.0 - config.layer_drop) + positions


def extractor_flops(config: WaveFrontEndConfig, samples: Sequence[int]) -> float:
    """Of the convolutions and the projection of wav2vec 2.0, for clips of so many samples."""
    flops = 0.0
    for count in samples:
        before = 1
        for layer, kernel in enumerate(KERNELS):
            flops += frames(count, layer + 1) * linear_flops(before * kernel, config.channels)
            before = config.channels
        flops += frames(count) * linear_flops(config.channels, config.width)
    return flops
