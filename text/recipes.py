# SPDX-License-Identifier: Apache-2.0
"""Recipes for text: BERT, as published and in a small form that learns within minutes."""

from ..ssl.blocks import EncoderConfig
from ..ssl.objectives.bert import BertConfig
from ..ssl.optim import OptimizerConfig, ScheduleConfig
from ..ssl.positions import RotaryPositionsConfig
from ..ssl.recipe import LoopConfig, Recipe
from .corpus import TextDataConfig
from .frontend import TextFrontEndConfig


def bert() -> Recipe:
    """BERT base: 12 x 768, masked words and next sentence (Devlin et al. 2019, arXiv:1810.04805, appendix A.2).

    Expected: GLUE test 79.6 (paper, table 1) after 1M steps of 256 sequences of 512; not reproduced here.
    Differs: AdamW corrects its bias; masks are drawn anew each epoch; all items may be 512 long from the start.
    Command: pluri pretrain text/bert --data.path corpus.txt
    """
    return Recipe(
        front_end=TextFrontEndConfig(),
        encoder=EncoderConfig(),
        objective=BertConfig(),
        data=TextDataConfig(longest=512),
        optimizer=OptimizerConfig(lr=1e-4, eps=1e-6, weight_decay=0.01, clip=1.0),
        steps=1_000_000,
        batch=256 * 512,
    )


def bert_tiny() -> Recipe:
    """BERT, 3 x 192 with 8,000 word pieces and rotary positions: learns on a few megabytes of text within minutes.

    With learned positions the same network needs four times the steps to see that words depend on their neighbours.
    Command: pluri pretrain text/bert_tiny --data.path corpus.txt
    """
    return Recipe(
        front_end=TextFrontEndConfig(vocab_size=8000, width=192),
        encoder=EncoderConfig(
            depth=3,
            width=192,
            heads=3,
            hidden=768,
            positions=RotaryPositionsConfig(),
            dropout=0.0,
            attention_dropout=0.0,
        ),
        objective=BertConfig(),
        data=TextDataConfig(vocab_size=8000, longest=128, held_out=0.03),
        optimizer=OptimizerConfig(lr=1.5e-3, betas=(0.9, 0.98), schedule=ScheduleConfig(kind="linear", warmup=0.05)),
        steps=1500,
        batch=2048,
        loop=LoopConfig(evaluate_every=250, save_every=250, buckets=8),
    )
