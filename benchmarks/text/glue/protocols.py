# SPDX-License-Identifier: Apache-2.0
"""Published ways of fine-tuning on GLUE, each with the paper or code that it is from.

Where a source counts steps, they are turned into epochs of the official training set, so that the same protocol can be
followed on more or less data. Differs from Google's code: AdamW corrects its bias, and the learning rate falls from the
end of the warm-up, not along a line from the first step. Differs from Mosaic's and ModernBERT's: scores are the last
network's, not the best of those scored during training; biases and norms are not decayed; ModernBERT's sweep has one
weight decay, not four.
"""

import dataclasses
from itertools import product
from typing import Literal

from ...finetune import Setting

Protocol = Literal["hf", "bert", "small_bert", "roberta", "albert", "cramming", "mosaic", "modernbert"]
TRAIN = {
    "cola": 8551,
    "sst2": 67349,
    "mrpc": 3668,
    "qqp": 363846,
    "stsb": 5749,
    "mnli": 392702,
    "qnli": 104743,
    "rte": 2490,
    "wnli": 635,
}  # examples of the official training sets

# huggingface/transformers, examples/pytorch/text-classification/README.md
_HF = Setting()
# Devlin et al. 2019, arXiv:1810.04805, section 4.1 and appendix A.3; google-research/bert@eedf5716, optimization.py.
_BERT = Setting(warmup=0.1, weight_decay=0.01, eps=1e-6)
# Geiping & Goldstein 2022, arXiv:2212.14034, section 5: one setting for all tasks.
_CRAMMING = Setting(lr=4e-5, batch=16, epochs=5.0, warmup=0.1, schedule="cosine", weight_decay=0.0)
# facebookresearch/fairseq@3d262bb2, examples/roberta: learning rate, batch, steps, warm-up steps.
_ROBERTA = {
    "mnli": (1e-5, 32, 123873, 7432),
    "qnli": (1e-5, 32, 33112, 1986),
    "qqp": (1e-5, 32, 113272, 28318),
    "rte": (2e-5, 16, 2036, 122),
    "sst2": (1e-5, 32, 20935, 1256),
    "mrpc": (1e-5, 16, 2296, 137),
    "cola": (1e-5, 16, 5336, 320),
    "stsb": (2e-5, 16, 3598, 214),
    "wnli": (1e-5, 32, 200, 12),  # not published: ten epochs, as the others
}
# google-research/albert@b772393d, README.md: learning rate, batch, steps, warm-up steps.
_ALBERT = {
    "sst2": (1e-5, 32, 20935, 1256),
    "mnli": (3e-5, 128, 10000, 1000),
    "cola": (1e-5, 16, 5336, 320),
    "qnli": (1e-5, 32, 33112, 1986),
    "qqp": (5e-5, 128, 14000, 1000),
    "rte": (3e-5, 32, 800, 200),
    "stsb": (2e-5, 16, 3598, 214),
    "mrpc": (2e-5, 32, 800, 200),
    "wnli": (2e-5, 16, 2000, 250),
}
# mosaicml/examples@daddaeff, examples/benchmarks/bert: src/glue/finetuning_jobs.py, yamls/finetuning/glue. Its
# DecoupledAdamW decays by a number that is not multiplied by the learning rate; AdamW's is that number over the rate.
_MOSAIC = Setting(warmup=0.06, weight_decay=0.1, betas=(0.9, 0.98), eps=1e-6, clip=None)
_MOSAIC_TASKS = {  # learning rate, batch, epochs
    "mnli": (5e-5, 48, 3.0),
    "qqp": (3e-5, 16, 5.0),
    "qnli": (1e-5, 16, 10.0),
    "sst2": (3e-5, 16, 3.0),
    "cola": (5e-5, 32, 10.0),
    "rte": (1e-5, 16, 3.0),
    "mrpc": (8e-5, 32, 10.0),
    "stsb": (3e-5, 32, 10.0),
    "wnli": (1e-5, 16, 3.0),  # not published: as RTE
}
# Warner et al. 2024, arXiv:2412.13663, appendix E.1; AnswerDotAI/ModernBERT@8c57a0f0, generate_eval_config.py and
# src/evals/glue_jobs.py. The four decays of the sweep are from 1e-6 to 1e-5 a step; a tenth of the rate, as Mosaic has
# it, stands for them. WNLI is not published: as RTE.
_MODERNBERT = dataclasses.replace(_MOSAIC, warmup=0.1)
_FEW_EPOCHS = ("sst2", "mnli", "rte", "wnli")
_FROM_MNLI = "published with RTE, MRPC and STS-B from the MNLI model (--intermediate), scored at a run's best"
SAID: dict[Protocol, str] = {
    "hf": "transformers' run_glue: lr 2e-5, batch 32, 3 epochs (MRPC, WNLI 5), linear decay, no warm-up",
    "bert": "BERT: best on dev of lr 5e-5, 3e-5, 2e-5 x batch 16, 32 x 2, 3, 4 epochs, warm-up 10 %",
    "small_bert": "small BERTs: best on dev of lr 3e-4, 1e-4, 5e-5, 3e-5 x batch 8 to 128, 4 epochs, warm-up 10 %",
    "roberta": "RoBERTa (fairseq): its setting of each task, warm-up 6 % (QQP 25 %); published with up to 512 tokens",
    "albert": "ALBERT: its setting of each task; published with up to 512 tokens",
    "cramming": "Cramming: lr 4e-5, batch 16, 5 epochs, cosine, warm-up 10 %",
    "mosaic": f"MosaicBERT: its setting of each task, warm-up 6 %; {_FROM_MNLI}, with 256 tokens",
    "modernbert": (
        "ModernBERT: best on dev of lr 1e-5, 3e-5, 5e-5, 8e-5 x 1, 2, 3 epochs (SST-2, MNLI, RTE, WNLI) or 2, 5, 10, "
        f"batch 64, warm-up 10 %; {_FROM_MNLI}, with four weight decays"
    ),
}


def settings(protocol: Protocol, task: str) -> list[Setting]:
    """The settings that a protocol tries on a task."""
    if protocol == "hf":
        return [dataclasses.replace(_HF, epochs=5.0) if task in ("mrpc", "wnli") else _HF]
    if protocol == "bert":
        return grid(_BERT, (5e-5, 3e-5, 2e-5), (16, 32), (2.0, 3.0, 4.0))
    if protocol == "small_bert":
        return grid(_BERT, (3e-4, 1e-4, 5e-5, 3e-5), (8, 16, 32, 64, 128), (4.0,))
    if protocol == "cramming":
        return [_CRAMMING]
    if protocol == "mosaic":
        lr, batch, epochs = _MOSAIC_TASKS[task]
        decay = 1.0 if task in ("rte", "wnli") else _MOSAIC.weight_decay
        return [dataclasses.replace(_MOSAIC, lr=lr, batch=batch, epochs=epochs, weight_decay=decay)]
    if protocol == "modernbert":
        epochs = (1.0, 2.0, 3.0) if task in _FEW_EPOCHS else (2.0, 5.0, 10.0)
        return grid(_MODERNBERT, (1e-5, 3e-5, 5e-5, 8e-5), (64,), epochs)
    if protocol == "roberta":
        # betas 0.9 and 0.98, decay 0.1: the same README.
        return [_stepped(Setting(weight_decay=0.1, betas=(0.9, 0.98), eps=1e-6, clip=None), task, *_ROBERTA[task])]
    return [_stepped(_BERT, task, *_ALBERT[task])]


def _stepped(base: Setting, task: str, lr: float, batch: int, steps: int, warmup: int) -> Setting:
    epochs = steps * batch / TRAIN[task]
    return dataclasses.replace(base, lr=lr, batch=batch, epochs=epochs, warmup=warmup / steps)


def grid(base: Setting, lr: tuple[float, ...], batch: tuple[int, ...], epochs: tuple[float, ...]) -> list[Setting]:
    """A setting for each combination."""
    return [dataclasses.replace(base, lr=a, batch=b, epochs=c) for a, b, c in product(lr, batch, epochs)]
