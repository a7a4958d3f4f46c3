# SPDX-License-Identifier: Apache-2.0
"""A step of masked language modelling beside transformers: from lists of ids to updated weights."""

import dataclasses
import functools

import numpy as np
import torch
from torch import Tensor, nn

from ...ssl import draw
from ...ssl.data import Item, collate
from ...ssl.objectives.bert import BertConfig
from ...text.recipes import bert
from .flops import step_flops
from .side import Setting, Side, Work, small, train_step

CLS, SEP, MASK, VOCABULARY = 101, 102, 103, 30522  # BERT's own


def _sentences(longest: int, rows: int, steps: int) -> list[list[list[int]]]:
    """Batches of rows of uneven length, longest x beta(1.8, 1.2), mean 60 %; ids as frequent as Zipf's law says."""
    rng = np.random.default_rng(0)
    lengths = np.clip(np.rint(longest * rng.beta(1.8, 1.2, (steps, rows))), 8, longest).astype(int)
    batches = []
    for row in lengths.tolist():
        ids = [104 + np.minimum(rng.zipf(1.3, length - 2), VOCABULARY - 105) for length in row]
        batches.append([[CLS, *words.tolist(), SEP] for words in ids])
    return batches


def ours(setting: Setting, longest: int, rows: int) -> Side:
    """The recipe text/bert without next sentence prediction."""
    recipe = dataclasses.replace(bert(), objective=BertConfig(next_sentence=False))
    recipe = small(recipe) if setting.small else recipe
    objective = recipe.build().to(setting.device).train()
    batches = _sentences(longest, rows, setting.steps)

    def loss(number: int) -> Tensor:
        items = [Item(torch.tensor(ids)) for ids in batches[number]]
        keys = [draw.key(0, number, row) for row in range(rows)]
        return objective(collate(items, keys, ragged=True).to(setting.device))["loss"]

    flops = [step_flops(recipe, [len(ids) for ids in batch]) for batch in batches]
    step = train_step(loss, objective, recipe.optimizer.build(objective), 1.0, setting)
    return Side(step, [float(sum(map(len, batch))) for batch in batches], flops)


def theirs(setting: Setting, longest: int, rows: int) -> Side:
    """transformers' BertForMaskedLM under its own collator, as its Trainer puts them together."""
    import transformers
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    words = {f"[unused{i}]": i for i in range(VOCABULARY)}
    names = {0: "[PAD]", 100: "[UNK]", CLS: "[CLS]", SEP: "[SEP]", MASK: "[MASK]"}
    words = {names.get(i, word): i for word, i in words.items()}
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(words, unk_token="[UNK]")),
        pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]",
    )  # fmt: skip
    collator = transformers.DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15)
    config = transformers.BertConfig()
    if setting.small:
        config = transformers.BertConfig(
            hidden_size=256, num_hidden_layers=4, num_attention_heads=4, intermediate_size=1024
        )
    config._attn_implementation = "sdpa"
    model = transformers.BertForMaskedLM(config).train()
    nn.Module.to(model, setting.device)
    batches = _sentences(longest, rows, setting.steps)

    def loss(number: int) -> Tensor:
        batch = collator([{"input_ids": ids} for ids in batches[number]])
        return model(**{name: value.to(setting.device) for name, value in batch.items()}).loss

    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01, fused=True)
    step = train_step(loss, model, optimizer, 1.0, setting)
    return Side(step, [float(sum(map(len, batch))) for batch in batches])


def _work(longest: int, rows: int) -> Work:
    return Work(
        f"bert_{longest}",
        "text",
        "transformers",
        "tokens",
        ("transformers",),
        functools.partial(ours, longest=longest, rows=rows),
        functools.partial(theirs, longest=longest, rows=rows),
    )


WORKS = (_work(128, 16), _work(512, 8))
