# SPDX-License-Identifier: Apache-2.0
"""ViT from Hugging Face folders, and back."""

import dataclasses
from pathlib import Path
from typing import Any

from ..ssl import published
from ..ssl.encoder import Backbone, Encoder
from ..ssl.positions import LearnedPositions, LearnedPositionsConfig
from ..ssl.published import BlockNames, take
from .frontend import PatchFrontEnd, PatchFrontEndConfig

TYPES = ("vit",)
_BLOCK = "encoder.layer.{}."
_NAMES = BlockNames(
    query="attention.attention.query",
    key="attention.attention.key",
    value="attention.attention.value",
    out="attention.output.dense",
    attention_norm="layernorm_before",
    up="intermediate.dense",
    down="output.dense",
    mlp_norm="layernorm_after",
)


def from_hf(folder: Path) -> Backbone:
    """A ViT model, whatever head it carries, in eval mode; images normalised by mean and deviation 0.5, as published.

    Raises: ValueError for another kind of model.
    """
    settings, weights = published.read(folder)
    kind = settings.get("model_type")
    if kind not in TYPES or not settings.get("qkv_bias", True):
        raise ValueError(f"{folder} holds a {kind}, not a vit with biases")
    weights = published.strip(weights, "vit.")
    channels = settings.get("num_channels", 3)
    front = PatchFrontEndConfig(
        size=settings["image_size"],
        patch=settings["patch_size"],
        channels=channels,
        width=settings["hidden_size"],
        mean=(0.5,) * channels,
        std=(0.5,) * channels,
    )
    config = dataclasses.replace(
        published.shape_from(settings, norm_eps=1e-12),
        block="pre_norm",
        positions=LearnedPositionsConfig(length=front.positions),
        dropout=settings.get("hidden_dropout_prob", 0.0),
        attention_dropout=settings.get("attention_probs_dropout_prob", 0.0),
    )
    backbone = Backbone(PatchFrontEnd(front), Encoder(config))
    state = {f"encoder.{name}": x for name, x in published.blocks_from(weights, _BLOCK, _NAMES, config.depth).items()}
    state["front_end.class_token"] = take(weights, "embeddings.cls_token").flatten()
    state["encoder.positions.table"] = take(weights, "embeddings.position_embeddings")[0]
    state["front_end.project.weight"] = take(weights, "embeddings.patch_embeddings.projection.weight").flatten(1)
    state["front_end.project.bias"] = take(weights, "embeddings.patch_embeddings.projection.bias")
    for name in ("weight", "bias"):
        state[f"encoder.output_norm.{name}"] = take(weights, f"layernorm.{name}")
    backbone.load_state_dict(state)
    return backbone.eval()


def to_hf(backbone: Backbone, folder: Path) -> None:
    """Writes a ViTModel. Raises ValueError if the encoder is no ViT."""
    front_end, config = backbone.front_end, backbone.encoder.config
    positions = backbone.encoder.positions
    published.check_exportable(config, "pre_norm")
    if not isinstance(front_end, PatchFrontEnd) or not isinstance(positions, LearnedPositions):
        raise ValueError("a ViT has the patch front end and learned positions")
    if front_end.class_token is None:
        raise ValueError("a ViT has a class token: set front_end.class_token=True")
    front = front_end.config
    settings: dict[str, Any] = {
        "model_type": "vit",
        "architectures": ["ViTModel"],
        **published.shape_to(config),
        "hidden_dropout_prob": config.dropout,
        "attention_probs_dropout_prob": config.attention_dropout,
        "image_size": front.size,
        "patch_size": front.patch,
        "num_channels": front.channels,
        "qkv_bias": True,
    }
    encoder = backbone.encoder.state_dict()
    weights = published.blocks_to(encoder, _BLOCK, _NAMES, config.depth)
    weights["embeddings.cls_token"] = front_end.class_token[None, None]
    weights["embeddings.position_embeddings"] = positions.table[None]
    kernel = front_end.project.weight.unflatten(1, (front.channels, front.patch, front.patch))
    weights["embeddings.patch_embeddings.projection.weight"] = kernel
    weights["embeddings.patch_embeddings.projection.bias"] = front_end.project.bias
    for name in ("weight", "bias"):
        weights[f"layernorm.{name}"] = encoder[f"output_norm.{name}"]
    published.write(folder, settings, weights)
