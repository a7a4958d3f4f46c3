# SPDX-License-Identifier: Apache-2.0
"""wav2vec 2.0 and HuBERT from Hugging Face folders, and back to wav2vec 2.0."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ..ssl import published
from ..ssl.blocks import EncoderConfig
from ..ssl.encoder import Backbone, Encoder
from ..ssl.positions import ConvolutionalPositions, ConvolutionalPositionsConfig
from ..ssl.published import BlockNames, take
from .frontend import KERNELS, STRIDES, WaveFrontEnd, WaveFrontEndConfig

TYPES = ("wav2vec2", "hubert")
_BLOCK = "encoder.layers.{}."
_NAMES = BlockNames(
    query="attention.q_proj",
    key="attention.k_proj",
    value="attention.v_proj",
    out="attention.out_proj",
    attention_norm="layer_norm",
    up="feed_forward.intermediate_dense",
    down="feed_forward.output_dense",
    mlp_norm="final_layer_norm",
)
_CONV = "feature_extractor.conv_layers.{}."
_POSITIONS = "encoder.pos_conv_embed.conv."


def from_hf(folder: Path) -> Backbone:
    """A wav2vec 2.0 or HuBERT model, base or large, whatever head it carries, in eval mode.

    Raises: ValueError for another kind of model, or one with another extractor or adapters.
    """
    settings, weights = published.read(folder)
    kind = settings.get("model_type")
    if kind not in TYPES:
        raise ValueError(f"{folder} holds a {kind}, not one of {', '.join(TYPES)}")
    _check(settings)
    weights = published.strip(weights, f"{kind}.")
    front, config = _configs(settings)
    backbone = Backbone(WaveFrontEnd(front), Encoder(config))
    state = {f"encoder.{name}": x for name, x in published.blocks_from(weights, _BLOCK, _NAMES, config.depth).items()}
    state |= {f"front_end.{name}": x for name, x in _front_from(weights, front).items()}
    norm = "input_norm" if config.block == "post_norm" else "output_norm"
    for name in ("weight", "bias"):
        state[f"encoder.{norm}.{name}"] = take(weights, f"encoder.layer_norm.{name}")
    state["encoder.positions.conv.bias"] = take(weights, f"{_POSITIONS}bias")
    old = f"{_POSITIONS}weight_g" in weights
    names = (
        ("weight_g", "weight_v") if old else ("parametrizations.weight.original0", "parametrizations.weight.original1")
    )
    for i, name in enumerate(names):
        state[f"encoder.positions.conv.parametrizations.weight.original{i}"] = take(weights, _POSITIONS + name)
    backbone.load_state_dict(state)
    return backbone.eval()


def _check(settings: Mapping[str, Any]) -> None:
    kernels, strides = tuple(settings["conv_kernel"]), tuple(settings["conv_stride"])
    if (kernels, strides) != (KERNELS, STRIDES) or len(set(settings["conv_dim"])) > 1:
        raise ValueError(f"an extractor with kernels {kernels} and strides {strides} is not known here")
    if settings.get("add_adapter") or settings.get("adapter_attn_dim"):
        raise ValueError("adapters are not known here")


def _configs(settings: Mapping[str, Any]) -> tuple[WaveFrontEndConfig, EncoderConfig]:
    stable = settings.get("do_stable_layer_norm", False)
    front = WaveFrontEndConfig(
        norm=settings.get("feat_extract_norm", "group"),
        bias=settings.get("conv_bias", False),
        channels=settings["conv_dim"][0],
        width=settings["hidden_size"],
        dropout=settings.get("feat_proj_dropout", 0.0),
        normalize=settings.get("feat_extract_norm", "group") == "layer",
    )
    config = dataclasses.replace(
        published.shape_from(settings, norm_eps=1e-5),
        block="pre_norm" if stable else "post_norm",
        positions=ConvolutionalPositionsConfig(
            kernel=settings.get("num_conv_pos_embeddings", 128),
            groups=settings.get("num_conv_pos_embedding_groups", 16),
        ),
        dropout=settings.get("hidden_dropout", 0.1),
        attention_dropout=settings.get("attention_dropout", 0.1),
        mlp_dropout=settings.get("activation_dropout", 0.0),
        layer_drop=settings.get("layerdrop", 0.0),
    )
    return front, config


def _pairs(front: WaveFrontEndConfig) -> list[tuple[str, str]]:
    """Our names and theirs of the front end's weights."""
    pairs = []
    for i in range(len(KERNELS)):
        kinds = ("weight", "bias") if front.bias else ("weight",)
        pairs += [(f"convolutions.{i}.{kind}", f"{_CONV.format(i)}conv.{kind}") for kind in kinds]
        if front.norm == "layer":
            pairs += [(f"convolutions.{i}.norm.{k}", f"{_CONV.format(i)}layer_norm.{k}") for k in ("weight", "bias")]
    if front.norm == "group":
        pairs += [(f"group_{kind}", f"{_CONV.format(0)}layer_norm.{kind}") for kind in ("weight", "bias")]
    pairs += [(f"norm.{kind}", f"feature_projection.layer_norm.{kind}") for kind in ("weight", "bias")]
    return pairs + [(f"project.{kind}", f"feature_projection.projection.{kind}") for kind in ("weight", "bias")]


def _front_from(weights: Mapping[str, Tensor], front: WaveFrontEndConfig) -> dict[str, Tensor]:
    return {ours: take(weights, theirs) for ours, theirs in _pairs(front)}


def to_hf(backbone: Backbone, folder: Path) -> None:
    """Writes a Wav2Vec2Model. Raises ValueError if the encoder is no wav2vec 2.0."""
    front_end, config = backbone.front_end, backbone.encoder.config
    positions = backbone.encoder.positions
    published.check_exportable(config, config.block)
    if not isinstance(front_end, WaveFrontEnd) or not isinstance(positions, ConvolutionalPositions):
        has = f"{type(positions).__name__} and {type(front_end).__name__}"
        how = "convolutional positions and the waveform front end, as recipe speech/wav2vec2"
        raise ValueError(f"a wav2vec 2.0 has {how}; this one has {has}")
    front = front_end.config
    settings: dict[str, Any] = {
        "model_type": "wav2vec2",
        "architectures": ["Wav2Vec2Model"],
        **published.shape_to(config),
        "hidden_dropout": config.dropout,
        "attention_dropout": config.attention_dropout,
        "activation_dropout": config.mlp_dropout,
        "layerdrop": config.layer_drop,
        "do_stable_layer_norm": config.block == "pre_norm",
        "feat_extract_norm": front.norm,
        "feat_proj_dropout": front.dropout,
        "conv_bias": front.bias,
        "conv_dim": [front.channels] * len(KERNELS),
        "conv_kernel": list(KERNELS),
        "conv_stride": list(STRIDES),
        "num_feat_extract_layers": len(KERNELS),
        "num_conv_pos_embeddings": positions.kernel,
        "num_conv_pos_embedding_groups": positions.conv.groups,
        "apply_spec_augment": False,
    }
    state, encoder = front_end.state_dict(), backbone.encoder.state_dict()
    weights = published.blocks_to(encoder, _BLOCK, _NAMES, config.depth)
    weights |= {theirs: state[ours] for ours, theirs in _pairs(front)}
    norm = "input_norm" if config.block == "post_norm" else "output_norm"
    for name in ("weight", "bias"):
        weights[f"encoder.layer_norm.{name}"] = encoder[f"{norm}.{name}"]
    for name in ("bias", "parametrizations.weight.original0", "parametrizations.weight.original1"):
        weights[_POSITIONS + name] = encoder[f"positions.conv.{name}"]
    weights["masked_spec_embed"] = encoder["blocks.0.mlp_norm.weight"].new_zeros(config.width)
    published.write(folder, settings, weights)
