# SPDX-License-Identifier: Apache-2.0
"""Published weights in Hugging Face folders: reading, writing, and the encoder's blocks under other names.

Only config.json and safetensors are read; pickled weights are refused, since loading them runs what they say.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from .blocks import EncoderConfig

WEIGHTS, INDEX, CONFIG = "model.safetensors", "model.safetensors.index.json", "config.json"
ACTIVATIONS: dict[str, Literal["gelu", "gelu_tanh"]] = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
}


class BlockNames(NamedTuple):
    """What a library calls the parts of a block, each after the block's own prefix."""

    query: str
    key: str
    value: str
    out: str
    attention_norm: str
    up: str
    down: str
    mlp_norm: str


def read(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Settings and weights of a folder. Raises ValueError, in one line, if either is missing."""
    from safetensors.torch import load_file

    if not (folder / CONFIG).is_file():
        raise ValueError(f"{folder} is no published model: it has no {CONFIG}")
    settings = json.loads((folder / CONFIG).read_text())
    if (folder / WEIGHTS).is_file():
        return settings, _modern(load_file(folder / WEIGHTS))
    if (folder / INDEX).is_file():
        shards = sorted(set(json.loads((folder / INDEX).read_text())["weight_map"].values()))
        return settings, _modern({name: x for shard in shards for name, x in load_file(folder / shard).items()})
    raise ValueError(f"{folder} has no {WEIGHTS}: convert pickled weights to safetensors first, they can run code")


def _modern(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """BERT's first checkpoints, bert-base-uncased among them, call a norm's weight gamma and its bias beta."""
    new = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}
    return {_replace_end(name, new): tensor for name, tensor in weights.items()}


def _replace_end(name: str, new: Mapping[str, str]) -> str:
    return next((name.removesuffix(old) + new[old] for old in new if name.endswith(old)), name)


def write(folder: Path, settings: dict[str, Any], weights: Mapping[str, Tensor]) -> None:
    """Settings and weights in a form that transformers loads."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text(json.dumps(settings, indent=2) + "\n")
    tensors = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in weights.items()}
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def strip(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The weights below a prefix, without it; all of them if none has it."""
    below = {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}
    return below or dict(weights)


def take(weights: Mapping[str, Tensor], name: str) -> Tensor:
    """One weight. Raises ValueError if it is not there."""
    if name not in weights:
        raise ValueError(f"the published weights lack {name}")
    return weights[name]


def blocks_from(weights: Mapping[str, Tensor], prefix: str, names: BlockNames, depth: int) -> dict[str, Tensor]:
    """A library's block weights under the encoder's names; `prefix` has {} for the block's number."""
    out = {}
    for i in range(depth):
        there, here = prefix.format(i), f"blocks.{i}."
        for kind in ("weight", "bias"):
            three = [take(weights, f"{there}{name}.{kind}") for name in (names.query, names.key, names.value)]
            out[f"{here}attention.qkv.{kind}"] = torch.cat(three)
            for ours, theirs in _single(names):
                out[f"{here}{ours}.{kind}"] = take(weights, f"{there}{theirs}.{kind}")
    return out


def blocks_to(state: Mapping[str, Tensor], prefix: str, names: BlockNames, depth: int) -> dict[str, Tensor]:
    """The inverse of `blocks_from`, from an encoder's state."""
    out = {}
    for i in range(depth):
        there, here = prefix.format(i), f"blocks.{i}."
        for kind in ("weight", "bias"):
            three = state[f"{here}attention.qkv.{kind}"].chunk(3)
            for name, tensor in zip((names.query, names.key, names.value), three, strict=True):
                out[f"{there}{name}.{kind}"] = tensor
            for ours, theirs in _single(names):
                out[f"{there}{theirs}.{kind}"] = state[f"{here}{ours}.{kind}"]
    return out


def _single(names: BlockNames) -> tuple[tuple[str, str], ...]:
    return (
        ("attention.out", names.out),
        ("attention_norm", names.attention_norm),
        ("mlp.up", names.up),
        ("mlp.down", names.down),
        ("mlp_norm", names.mlp_norm),
    )


def shape_from(settings: Mapping[str, Any], norm_eps: float) -> EncoderConfig:
    """An encoder of the published sizes; `norm_eps` holds where the settings say nothing. The rest is each kind's own.

    Raises: ValueError for an activation that the encoder has not.
    """
    name = settings.get("hidden_act", "gelu")
    if name not in ACTIVATIONS:
        raise ValueError(f"activation {name} is not known here: there are {', '.join(ACTIVATIONS)}")
    return EncoderConfig(
        depth=settings["num_hidden_layers"],
        width=settings["hidden_size"],
        heads=settings["num_attention_heads"],
        hidden=settings["intermediate_size"],
        norm_eps=settings.get("layer_norm_eps", norm_eps),
        mlp=ACTIVATIONS[name],
    )


def shape_to(config: EncoderConfig) -> dict[str, Any]:
    """The inverse of `shape_from`."""
    return {
        "hidden_size": config.width,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.heads,
        "intermediate_size": config.hidden,
        "hidden_act": "gelu" if config.mlp == "gelu" else "gelu_pytorch_tanh",
        "layer_norm_eps": config.norm_eps,
    }


def check_exportable(config: EncoderConfig, block: str) -> None:
    """Raises ValueError unless an encoder has the shape that the published formats know."""
    wrong = []
    if config.block != block:
        wrong.append(f"block={config.block}")
    if config.norm != "layer":
        wrong.append(f"norm={config.norm}")
    if config.mlp == "geglu":
        wrong.append("mlp=geglu")
    if not config.bias:
        wrong.append("bias=False")
    if config.causal:
        wrong.append("causal=True")
    if wrong:
        raise ValueError(f"this encoder has no counterpart there: {', '.join(wrong)}")
