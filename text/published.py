# SPDX-License-Identifier: Apache-2.0
"""BERT and RoBERTa from Hugging Face folders, and back to BERT."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..ssl import published
from ..ssl.encoder import Backbone, Encoder
from ..ssl.positions import LearnedPositions, LearnedPositionsConfig
from ..ssl.published import BlockNames, take
from . import tokenizer as wordpiece
from .frontend import TextFrontEnd, TextFrontEndConfig

TYPES = ("bert", "roberta")
_BLOCK = "encoder.layer.{}."
_NAMES = BlockNames(
    query="attention.self.query",
    key="attention.self.key",
    value="attention.self.value",
    out="attention.output.dense",
    attention_norm="attention.output.LayerNorm",
    up="intermediate.dense",
    down="output.dense",
    mlp_norm="output.LayerNorm",
)
# The heads of BertForPreTraining beside those of objectives/bert.py.
_HEADS = {
    "pooler": "bert.pooler.dense",
    "transform": "cls.predictions.transform.dense",
    "transform_norm": "cls.predictions.transform.LayerNorm",
    "next_sentence": "cls.seq_relationship",
}


class MaskedHead(NamedTuple):
    """What the parts of the head for masked words are called."""

    dense: str
    norm: str
    bias: str
    output: str  # the words' vectors, where they are not left out for being those of the input


MASKED_HEADS = {
    "bert": MaskedHead(
        "cls.predictions.transform.dense",
        "cls.predictions.transform.LayerNorm",
        "cls.predictions.bias",
        "cls.predictions.decoder.weight",
    ),
    "roberta": MaskedHead("lm_head.dense", "lm_head.layer_norm", "lm_head.bias", "lm_head.decoder.weight"),
}


def from_hf(folder: Path) -> Backbone:
    """A BERT or RoBERTa model, whatever head it carries, in eval mode.

    Raises: ValueError for another kind of model, or weights that are missing.
    """
    settings, weights = published.read(folder)
    kind = settings.get("model_type")
    if kind not in TYPES:
        raise ValueError(f"{folder} holds a {kind}, not one of {', '.join(TYPES)}")
    weights = published.strip(weights, f"{kind}.")
    # RoBERTa counts positions from the padding id + 1; the rows before that are never used.
    skipped = settings.get("pad_token_id", 1) + 1 if kind == "roberta" else 0
    config = dataclasses.replace(
        published.shape_from(settings, norm_eps=1e-12),
        positions=LearnedPositionsConfig(length=settings["max_position_embeddings"] - skipped),
        dropout=settings.get("hidden_dropout_prob", 0.1),
        attention_dropout=settings.get("attention_probs_dropout_prob", 0.1),
    )
    front = TextFrontEndConfig(
        vocab_size=settings["vocab_size"], width=config.width, segments=settings.get("type_vocab_size", 2)
    )
    backbone = Backbone(TextFrontEnd(front, _tokenizer(folder, front.vocab_size)), Encoder(config))
    state = {f"encoder.{name}": x for name, x in published.blocks_from(weights, _BLOCK, _NAMES, config.depth).items()}
    state["front_end.word.weight"] = take(weights, "embeddings.word_embeddings.weight")
    state["front_end.segment.weight"] = take(weights, "embeddings.token_type_embeddings.weight")
    state["encoder.positions.table"] = take(weights, "embeddings.position_embeddings.weight")[skipped:]
    for name in ("weight", "bias"):
        state[f"encoder.input_norm.{name}"] = take(weights, f"embeddings.LayerNorm.{name}")
    backbone.load_state_dict(state)
    return backbone.eval()


def _tokenizer(folder: Path, vocab_size: int):  # noqa: ANN202  Tokenizer | None
    """The folder's tokenizer, if it is BERT's or RoBERTa's kind with this vocabulary."""
    if not any((folder / name).is_file() for name in (wordpiece.FILE, *wordpiece.VOCABULARIES)):
        return None
    try:
        tokenizer = wordpiece.load_tokenizer(folder)
    except ValueError:  # of another kind; the weights are of use without
        return None
    return tokenizer if wordpiece.describe(tokenizer).size == vocab_size else None


def to_hf(backbone: Backbone, folder: Path) -> None:
    """Writes a BertModel (and the tokenizer). Raises ValueError if the encoder is no BERT."""
    front_end, config = backbone.front_end, backbone.encoder.config
    published.check_exportable(config, "post_norm")
    positions = backbone.encoder.positions
    if not isinstance(front_end, TextFrontEnd) or not isinstance(positions, LearnedPositions):
        has = f"{type(positions).__name__} and {type(front_end).__name__}"
        raise ValueError(
            f"a BERT has learned positions and the text front end, as recipe text/bert; this one has {has}"
        )
    if front_end.segment is None:
        raise ValueError("a BERT has segment embeddings: set front_end.segments=2")
    settings: dict[str, Any] = {
        "model_type": "bert",
        "architectures": ["BertModel"],
        "vocab_size": front_end.config.vocab_size,
        **published.shape_to(config),
        "hidden_dropout_prob": config.dropout,
        "attention_probs_dropout_prob": config.attention_dropout,
        "max_position_embeddings": len(positions.table),
        "type_vocab_size": front_end.config.segments,
        "pad_token_id": 0,
    }
    encoder = backbone.encoder.state_dict()
    weights = published.blocks_to(encoder, _BLOCK, _NAMES, config.depth)
    weights["embeddings.word_embeddings.weight"] = front_end.word.weight
    weights["embeddings.token_type_embeddings.weight"] = front_end.segment.weight
    weights["embeddings.position_embeddings.weight"] = positions.table
    for name in ("weight", "bias"):
        weights[f"embeddings.LayerNorm.{name}"] = encoder[f"input_norm.{name}"]
    published.write(folder, settings, weights)
    front_end.save_assets(folder)


def heads_from_hf(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The heads of BertForPreTraining (its whole state) under the names of objectives/bert.py."""
    out = {
        f"{ours}.{kind}": take(weights, f"{theirs}.{kind}")
        for ours, theirs in _HEADS.items()
        for kind in ("weight", "bias")
    }
    return {**out, "bias": take(weights, "cls.predictions.bias")}


def masked_head_from_hf(weights: Mapping[str, Tensor], names: MaskedHead) -> dict[str, Tensor]:
    """The head of BertForMaskedLM or RobertaForMaskedLM under the names of objectives/bert.py."""
    out = {"bias": take(weights, names.bias)}
    for ours, theirs in (("transform", names.dense), ("transform_norm", names.norm)):
        for kind in ("weight", "bias"):
            out[f"{ours}.{kind}"] = take(weights, f"{theirs}.{kind}")
    return out


def heads_to_hf(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `heads_from_hf`."""
    out = {
        f"{theirs}.{kind}": torch.as_tensor(state[f"{ours}.{kind}"])
        for ours, theirs in _HEADS.items()
        for kind in ("weight", "bias")
    }
    return {**out, "cls.predictions.bias": state["bias"]}
