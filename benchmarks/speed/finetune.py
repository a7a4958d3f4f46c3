# SPDX-License-Identifier: Apache-2.0
"""A step of fine-tuning a MiniLM for GLUE beside transformers: from encoded texts to updated weights.

Rows are as long as CoLA's sentences or MRPC's pairs. The peer pads to 128 tokens, as run_glue.py does unless told
otherwise, or, in the works called "longest", to the longest row of a batch.
"""

import functools
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from ...ssl import draw
from ...ssl.blocks import EncoderConfig
from ...ssl.data import Item, collate
from ...ssl.encoder import Backbone, Encoder
from ...ssl.optim import OptimizerConfig
from ...ssl.positions import LearnedPositionsConfig
from ...text.frontend import TextFrontEnd, TextFrontEndConfig
from ..encoders import Start
from ..task import Supervised
from ..text.examples import Example
from ..text.glue.tasks import matthews
from ..text.sentences import Parts, Sentences, SentenceTask
from .flops import encoder_flops, linear_flops
from .side import Setting, Side, Work, objective_step, train_step
from .text import VOCABULARY, peers_tokenizer, tokenizer, words

ROWS, LONGEST = 16, 128
LABELS = ("0", "1")
Texts = Literal["sentences", "pairs"]


def _examples(texts: Texts, many: int) -> list[Example]:
    """As long as the training examples of CoLA (11 tokens in the mean, markers included) or MRPC (53)."""
    rng = np.random.default_rng(0)
    drawn = 4 + rng.gamma(2.6, 2.8, many) if texts == "sentences" else rng.normal(53, 13, many)
    lengths = np.clip(np.rint(drawn), *((4, 47) if texts == "sentences" else (19, 103))).astype(int)
    examples = []
    for number, length in enumerate(lengths.tolist()):
        markers = 2 if texts == "sentences" else 3
        said = [f"[unused{i}]" for i in words(rng, length - markers)]
        half = len(said) // 2
        first, second = (said, None) if texts == "sentences" else (said[:half], " ".join(said[half:]))
        examples.append(Example(str(number), " ".join(first), second, LABELS[number % 2]))
    return examples


def _sizes(setting: Setting) -> tuple[int, int, int]:
    """Depth, width and heads: those of all-MiniLM-L6-v2, or the quick bench's."""
    return (4, 256, 4) if setting.small else (6, 384, 12)


def _data(setting: Setting, texts: Texts) -> tuple[Supervised, Sentences]:
    depth, width, heads = _sizes(setting)
    encoder = EncoderConfig(
        depth=depth, width=width, heads=heads, hidden=4 * width, positions=LearnedPositionsConfig(length=512)
    )
    front_end = TextFrontEnd(TextFrontEndConfig(vocab_size=VOCABULARY, width=width), tokenizer())
    backbone = Backbone(front_end, Encoder(encoder))
    parts = Parts(_examples(texts, setting.steps * ROWS), {})
    task = SentenceTask(Start("bench", backbone), parts, LABELS, matthews, longest=LONGEST)
    train = task.splits.train
    assert isinstance(train, Sentences)
    return Supervised(task, backbone), train


def ours(setting: Setting, texts: Texts) -> Side:
    """What `pluri evaluate glue` trains."""
    objective, data = _data(setting, texts)
    objective.to(setting.device).train()
    lengths = np.diff(data.bounds).reshape(setting.steps, ROWS).tolist()

    def loss(number: int) -> Tensor:
        rows = range(ROWS * number, ROWS * (number + 1))
        items: list[Item] = [data.load(data.records[row], row) for row in rows]
        return objective(collate(items, [draw.key(0, row) for row in rows], ragged=True).to(setting.device))["loss"]

    encoder = objective.backbone.encoder.config
    head = ROWS * linear_flops(encoder.width, encoder.width, len(LABELS))
    flops = [3 * (encoder_flops(encoder, some, [1] * ROWS) + head) for some in lengths]
    step = objective_step(loss, objective, OptimizerConfig(lr=1e-4, weight_decay=0.0), setting)
    return Side(step, [float(sum(some)) for some in lengths], flops)


def theirs(setting: Setting, texts: Texts, padding: Literal["max_length", "longest"]) -> Side:
    """transformers' BertForSequenceClassification, optimiser and clipping as its Trainer puts them together."""
    import transformers

    depth, width, heads = _sizes(setting)
    config = transformers.BertConfig(
        hidden_size=width, num_hidden_layers=depth, num_attention_heads=heads, intermediate_size=4 * width
    )
    config._attn_implementation = "sdpa"
    model = transformers.BertForSequenceClassification(config).train()
    nn.Module.to(model, setting.device)
    collator = transformers.DataCollatorWithPadding(peers_tokenizer(), padding=padding, max_length=LONGEST)
    _, data = _data(setting, texts)
    features: list[dict[str, Any]] = []
    for record in data.records:
        item = data.load(record, 0)
        ids, segments = item.inputs.T.tolist()
        mask = [1] * len(ids)
        label = int(item.extras["label"])
        features.append({"input_ids": ids, "token_type_ids": segments, "attention_mask": mask, "label": label})

    def loss(number: int) -> Tensor:
        batch = collator(features[ROWS * number : ROWS * (number + 1)])
        return model(**{name: value.to(setting.device) for name, value in batch.items()}).loss

    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True, weight_decay=0.0)
    sizes = np.diff(data.bounds).reshape(setting.steps, ROWS).sum(1).astype(float).tolist()
    return Side(train_step(loss, model, optimizer, 1.0, setting), sizes)


def _work(texts: Texts, padding: Literal["max_length", "longest"]) -> Work:
    return Work(
        f"glue_{texts}" + ("_longest" if padding == "longest" else ""),
        "text",
        "transformers",
        "tokens",
        ("transformers",),
        functools.partial(ours, texts=texts),
        functools.partial(theirs, texts=texts, padding=padding),
        quick=texts == "pairs" and padding == "longest",
    )


WORKS = tuple(_work(texts, padding) for texts in ("sentences", "pairs") for padding in ("max_length", "longest"))
