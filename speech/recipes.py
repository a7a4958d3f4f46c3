# SPDX-License-Identifier: Apache-2.0
"""Recipes for speech: Mockingjay, wav2vec 2.0 and VICReg; each also in a small form that learns within minutes."""

from typing import Literal

from ..ssl.blocks import EncoderConfig
from ..ssl.objectives.mockingjay import MockingjayConfig
from ..ssl.objectives.vicreg import VicregConfig
from ..ssl.objectives.wav2vec2 import Wav2Vec2Config
from ..ssl.optim import OptimizerConfig, ScheduleConfig
from ..ssl.positions import (
    ConvolutionalPositionsConfig,
    PositionsConfig,
    RotaryPositionsConfig,
    SinusoidalPositionsConfig,
)
from ..ssl.quantize import QuantizerConfig
from ..ssl.recipe import LoopConfig, Recipe
from .corpus import AudioDataConfig
from .features import FeaturesConfig
from .frontend import WaveFrontEndConfig
from .spectrum import SpectrumFrontEndConfig
from .views import SpeechViewsConfig


def mockingjay() -> Recipe:
    """Mockingjay: 3 x 768 over 240 normalised filter bank features (arXiv:1910.12638; s3prl's present default).

    Expected: SUPERB's Mockingjay entry is the 12-layer model on 360 hours: PR 70.19, KS 83.67, SID 32.29
    (superbbenchmark.org); not reproduced here.
    Command: pluri pretrain speech/mockingjay --data.path LibriSpeech
    """
    return Recipe(
        front_end=SpectrumFrontEndConfig(),
        encoder=EncoderConfig(depth=3, positions=SinusoidalPositionsConfig(length=3000)),
        objective=MockingjayConfig(),
        data=AudioDataConfig(longest=15.0, shortest=2.0),
        optimizer=OptimizerConfig(
            lr=2e-4, weight_decay=0.01, clip=5.0, schedule=ScheduleConfig(kind="linear", warmup=0.07)
        ),
        steps=1_000_000,
        batch=32 * 12.0,
        loop=LoopConfig(buckets=16),
    )


def wav2vec2() -> Recipe:
    """wav2vec 2.0 base: 12 x 768 on waveforms (Baevski et al. 2020, arXiv:2006.11477, section 4.2).

    Expected: SUPERB PR 5.74, KS 96.23, SID 75.18 after 400k steps on 960 hours (superbbenchmark.org); not reproduced.
    Command: pluri pretrain speech/wav2vec2 --data.path LibriSpeech
    """
    return Recipe(
        front_end=WaveFrontEndConfig(),
        encoder=EncoderConfig(norm_eps=1e-5, positions=ConvolutionalPositionsConfig(), layer_drop=0.05),
        objective=Wav2Vec2Config(),
        data=AudioDataConfig(longest=15.6, shortest=2.0),
        optimizer=OptimizerConfig(
            lr=5e-4,
            betas=(0.9, 0.98),
            eps=1e-6,
            weight_decay=0.01,
            clip=None,
            schedule=ScheduleConfig(kind="linear", warmup=0.08),
        ),
        steps=400_000,
        batch=64 * 87.5,
        loop=LoopConfig(buckets=16),
    )


def _tiny(positions: PositionsConfig, block: Literal["post_norm", "pre_norm"] = "post_norm") -> EncoderConfig:
    """3 x 192."""
    return EncoderConfig(
        depth=3,
        width=192,
        heads=3,
        hidden=768,
        block=block,
        norm_eps=1e-6,
        positions=positions,
        dropout=0.0,
        attention_dropout=0.0,
    )


def mockingjay_tiny() -> Recipe:
    """Mockingjay, 3 x 192 over 80 filters: learns on minutes of speech within minutes on two cores.

    Three frames make a unit, as in the original 12-layer model. Four of them are hidden, 120 ms, since a line is a good
    guess for a shorter span. Positions are wav2vec 2.0's: with sinusoidal or rotary ones a network this small spends a
    thousand steps and more on finding out that frames depend on their neighbours.
    Command: pluri pretrain speech/mockingjay_tiny --data.path speech
    """
    return Recipe(
        front_end=SpectrumFrontEndConfig(features=FeaturesConfig(deltas=0), stack=3, width=192),
        encoder=_tiny(ConvolutionalPositionsConfig(kernel=32, groups=4), "pre_norm"),
        objective=MockingjayConfig(span=4, die="span"),
        data=AudioDataConfig(longest=8.0, shortest=0.3, held_out=0.05),
        optimizer=OptimizerConfig(
            lr=1.5e-3, betas=(0.9, 0.98), clip=1.0, schedule=ScheduleConfig(kind="linear", warmup=0.1)
        ),
        steps=2000,
        batch=20.0,
        loop=LoopConfig(evaluate_every=200, save_every=500, buckets=8),
    )


def wav2vec2_tiny() -> Recipe:
    """wav2vec 2.0, 3 x 192 with a 128-wide extractor: learns on minutes of speech within minutes on two cores.

    Half the published span, a tenth of the codes and thrice the weight on their diversity: with so little speech the
    codes collapse otherwise, which makes the contrast trivial.
    Command: pluri pretrain speech/wav2vec2_tiny --data.path speech
    """
    return Recipe(
        front_end=WaveFrontEndConfig(
            norm="layer", bias=True, channels=128, width=192, dropout=0.0, gradient_scale=1.0, normalize=True
        ),
        encoder=_tiny(RotaryPositionsConfig()),
        objective=Wav2Vec2Config(
            mask_share=0.5,
            span=5,
            final_width=128,
            diversity_weight=0.3,
            target_dropout=0.0,
            penalty_weight=0.0,
            quantizer=QuantizerConfig(codes=32, width=128, start_temperature=1.0),
        ),
        data=AudioDataConfig(longest=6.0, shortest=0.3, held_out=0.05),
        optimizer=OptimizerConfig(
            lr=1.5e-3, betas=(0.9, 0.98), clip=5.0, schedule=ScheduleConfig(kind="linear", warmup=0.08)
        ),
        steps=1200,
        batch=30.0,
        loop=LoopConfig(evaluate_every=200, save_every=200, buckets=8),
    )


def vicreg_tiny() -> Recipe:
    """VICReg on two noisy pieces of each utterance, 3 x 192 over 80 filters.

    Command: pluri pretrain speech/vicreg_tiny --data.path speech
    """
    return Recipe(
        front_end=SpectrumFrontEndConfig(features=FeaturesConfig(deltas=0, normalize=False), width=192),
        encoder=_tiny(RotaryPositionsConfig(), "pre_norm"),
        objective=VicregConfig(views=SpeechViewsConfig(), projected=512),
        data=AudioDataConfig(longest=3.0, shortest=0.3, held_out=0.05),
        optimizer=OptimizerConfig(lr=5e-4, clip=3.0, schedule=ScheduleConfig(kind="cosine", warmup=0.1)),
        steps=500,
        batch=180.0,
        loop=LoopConfig(evaluate_every=100, save_every=100, buckets=8),
    )
