# SPDX-License-Identifier: Apache-2.0
"""Floating-point operations that encoders and steps need by their mathematics: matrix products of real positions only.

A multiplication and its addition count as two. Backward needs twice as many as forward. Norms, softmax and other work
that is not a matrix product are left out, as is the custom where a model's FLOPs are set against a machine's peak.
"""

from collections.abc import Sequence
from itertools import pairwise

from ...speech.features import HOP, WINDOW
from ...speech.frontend import KERNELS, WaveFrontEndConfig, frames
from ...speech.spectrum import SpectrumFrontEndConfig
from ...ssl.blocks import EncoderConfig
from ...ssl.encoder import FrontEndConfig
from ...ssl.objective import ObjectiveConfig
from ...ssl.objectives.bert import BertConfig
from ...ssl.objectives.byol import ByolConfig
from ...ssl.objectives.mockingjay import MockingjayConfig
from ...ssl.objectives.vicreg import VicregConfig
from ...ssl.objectives.wav2vec2 import Wav2Vec2Config
from ...ssl.positions import ConvolutionalPositionsConfig
from ...ssl.recipe import Recipe
from ...text.frontend import TextFrontEndConfig
from ...vision.frontend import PatchFrontEndConfig


def linear_flops(*widths: int) -> float:
    """Of linear layers one after the other, for each position."""
    return sum(2.0 * before * after for before, after in pairwise(widths))


def encoder_flops(config: EncoderConfig, lengths: Sequence[int], wanted: Sequence[int] | None = None) -> float:
    """Of the encoder's forward pass, for rows of these lengths.

    Args:
        wanted: of how many positions of each row the output is needed; None: of all. The last block computes keys and
            values of all, and everything else for the wanted ones.
    """
    width, total = config.width, sum(lengths)
    mlp = linear_flops(width, config.hidden, width) * (1.5 if config.mlp == "geglu" else 1.0)
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
    """Of the convolutions and the projection of wav2vec 2.0, forward, for clips of so many samples."""
    flops = 0.0
    for count in samples:
        before = 1
        for layer, kernel in enumerate(KERNELS):
            flops += frames(count, layer + 1) * linear_flops(before * kernel, config.channels)
            before = config.channels
        flops += frames(count) * linear_flops(config.channels, config.width)
    return flops


def front_end_flops(config: FrontEndConfig, lengths: Sequence[int]) -> tuple[list[int], float]:
    """Units that a front end makes of rows of these lengths (tokens, samples, or 1 an image), and its forward FLOPs."""
    if isinstance(config, TextFrontEndConfig):
        return list(lengths), 0.0
    if isinstance(config, WaveFrontEndConfig):
        return [frames(count) for count in lengths], extractor_flops(config, lengths)
    if isinstance(config, SpectrumFrontEndConfig):
        units = [-(-(1 + max(0, count - WINDOW) // HOP) // config.stack) for count in lengths]
        return units, sum(units) * linear_flops(config.features.width * config.stack, config.width)
    assert isinstance(config, PatchFrontEndConfig)
    patches = (config.size // config.patch) ** 2
    each = patches * linear_flops(config.channels * config.patch**2, config.width)
    return [config.positions] * len(lengths), len(lengths) * each


def step_flops(recipe: Recipe, lengths: Sequence[int]) -> float:
    """Of a training step, forward and backward, on rows of these lengths: tokens, samples, or 1 for each image."""
    units, before = front_end_flops(recipe.front_end, lengths)
    wanted = _wanted(recipe.objective, units)
    forward = before + encoder_flops(recipe.encoder, units, wanted)
    objective, width, rows = recipe.objective, recipe.encoder.width, len(units)
    if isinstance(objective, ByolConfig):
        projector = linear_flops(width, objective.hidden, objective.projected)
        predictor = linear_flops(objective.projected, objective.hidden, objective.projected)
        # Two views; the teacher sees both and has no backward pass.
        return 2 * (4 * (forward + rows * projector) + 3 * rows * predictor)
    if isinstance(objective, VicregConfig):
        head = linear_flops(width, *[objective.projected] * objective.layers)
        return 2 * 3 * (forward + rows * (head + linear_flops(objective.projected, objective.projected)))
    return 3 * (forward + sum(wanted or units) * _head(recipe))


def _wanted(objective: ObjectiveConfig, units: list[int]) -> list[int] | None:
    """Of how many units of each row the objective needs the encoder's output; None: of all."""
    if isinstance(objective, BertConfig):
        return [round(objective.mask_share * count) + int(objective.next_sentence) for count in units]
    if isinstance(objective, MockingjayConfig):
        return None if objective.channel_share else [round(objective.mask_share * count) for count in units]
    if isinstance(objective, Wav2Vec2Config):
        hidden = 1.0 - (1.0 - objective.mask_share / objective.span) ** objective.span  # spans may overlap
        return [round(hidden * count) for count in units]
    assert isinstance(objective, ByolConfig | VicregConfig)
    return [1] * len(units) if objective.pool == "first" else None


def _head(recipe: Recipe) -> float:
    """What is computed for each unit that the loss reads, forward."""
    objective, front_end, width = recipe.objective, recipe.front_end, recipe.encoder.width
    if isinstance(objective, BertConfig):
        assert isinstance(front_end, TextFrontEndConfig)
        return linear_flops(width, width, front_end.vocab_size)
    if isinstance(objective, MockingjayConfig):
        if isinstance(front_end, SpectrumFrontEndConfig):
            return linear_flops(width, width, front_end.features.width * front_end.stack)
        assert isinstance(front_end, PatchFrontEndConfig)
        return linear_flops(width, width, front_end.channels * front_end.patch**2)
    assert isinstance(objective, Wav2Vec2Config) and isinstance(front_end, WaveFrontEndConfig)
    quantizer = objective.quantizer
    scores = linear_flops(front_end.channels, quantizer.groups * quantizer.codes)
    return linear_flops(width, objective.final_width) + scores + linear_flops(quantizer.width, objective.final_width)
