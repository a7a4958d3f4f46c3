# SPDX-License-Identifier: Apache-2.0
"""A step of masked language modelling beside transformers: from lists of ids to updated weights."""

import dataclasses
import functools
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from torch import Tensor, nn

from ...ssl.data import Item, collate
from ...ssl.objectives.bert import BertConfig
from ...text.recipes import bert
from .flops import step_flops
from .side import Setting, Side, Work, keys, objective_step, sized, small, train_step

CLS, SEP, MASK, VOCABULARY = 101, 102, 103, 30522  # BERT's own


def tokenizer() -> Tokenizer:
    """Of words [unused104] and so on, one an id, and BERT's markers in their places."""
    markers = {0: "[PAD]", 100: "[UNK]", CLS: "[CLS]", SEP: "[SEP]", MASK: "[MASK]"}
    vocabulary = {markers.get(i, f"[unused{i}]"): i for i in range(VOCABULARY)}
    made = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = WhitespaceSplit()
    return made


def peers_tokenizer() -> Any:
    """The same for transformers."""
    import transformers

    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer(),
        pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]",
    )  # fmt: skip


def words(rng: np.random.Generator, many: int) -> list[int]:
    """Ids as frequent as Zipf's law says."""
    return (104 + np.minimum(rng.zipf(1.3, many), VOCABULARY - 105)).tolist()


def _sentences(longest: int, rows: int, steps: int) -> list[list[list[int]]]:
    """Batches of rows of uneven length, longest x beta(1.8, 1.2), mean 60 %."""
    rng = np.random.default_rng(0)
    lengths = np.clip(np.rint(longest * rng.beta(1.8, 1.2, (steps, rows))), 8, longest).astype(int)
    batches = []
    for row in lengths.tolist():
        batches.append([[CLS, *words(rng, length - 2), SEP] for length in row])
    return batches


def ours(setting: Setting, longest: int, rows: int, large: bool) -> Side:
    """The recipe text/bert without next sentence prediction."""
    recipe = dataclasses.replace(bert(), objective=BertConfig(next_sentence=False))
    if large:
        recipe = sized(recipe, 24, 1024, 16)
    recipe = small(recipe) if setting.small else recipe
    objective = recipe.build().to(setting.device).train()
    batches = _sentences(longest, setting.rows(rows), setting.steps)

    def loss(number: int) -> Tensor:
        items = [Item(torch.tensor(ids)) for ids in batches[number]]
        drawn = keys(number, len(items)).tolist()
        return objective(collate(items, drawn, ragged=True).to(setting.device))["loss"]

    flops = [step_flops(recipe, [len(ids) for ids in batch]) for batch in batches]
    step = objective_step(loss, objective, recipe.optimizer, setting)
    return Side(step, [float(sum(map(len, batch))) for batch in batches], flops)


def theirs(setting: Setting, longest: int, rows: int, large: bool) -> Side:
    """transformers' BertForMaskedLM under its own collator, as its Trainer puts them together."""
    import transformers

    collator = transformers.DataCollatorForLanguageModeling(peers_tokenizer(), mlm_probability=0.15)
    config = transformers.BertConfig()
    if large:
        config = transformers.BertConfig(
            hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096
        )
    if setting.small:
        config = transformers.BertConfig(
            hidden_size=256, num_hidden_layers=4, num_attention_heads=4, intermediate_size=1024
        )
    config._attn_implementation = "sdpa"
    model = transformers.BertForMaskedLM(config).train()
    nn.Module.to(model, setting.device)
    batches = _sentences(longest, setting.rows(rows), setting.steps)

    def loss(number: int) -> Tensor:
        batch = collator([{"input_ids": ids} for ids in batches[number]])
        return model(**{name: value.to(setting.device) for name, value in batch.items()}).loss

    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01, fused=True)
    step = train_step(loss, model, optimizer, 1.0, setting)
    return Side(step, [float(sum(map(len, batch))) for batch in batches])


def _work(longest: int, rows: int, large: bool = False) -> Work:
    return Work(
        f"bert_large_{longest}" if large else f"bert_{longest}",
        "text",
        "transformers",
        "tokens",
        ("transformers",),
        functools.partial(ours, longest=longest, rows=rows, large=large),
        functools.partial(theirs, longest=longest, rows=rows, large=large),
        quick=longest == 128,
        large=large,
    )


WORKS = (_work(128, 16), _work(512, 8), _work(512, 8, large=True))
