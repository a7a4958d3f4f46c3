# SPDX-License-Identifier: Apache-2.0
"""s3prl 0.4.18's Mockingjay on a torchaudio that it was not written for: the names it misses are put in their places.

Meant for a process of its own, since it changes torchaudio and the module path. s3prl's modules import one another by
names that only hold from within its folder.
"""

import importlib
import importlib.machinery
import importlib.util
import random
import sys
import types
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from ..s3prl import shims

Prepare = Callable[[list[Tensor]], tuple[Tensor, ...]]


def _stand_in(name: str) -> None:
    if importlib.util.find_spec(name) is None:
        module = types.ModuleType(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        sys.modules[name] = module


def _make_importable() -> None:
    # A name that later releases of torch have dropped.
    sys.modules["torch.optim.optimizer"].__dict__.setdefault("required", object())
    for absent in ("pandas", "matplotlib"):  # tables and plots, which a step does without
        _stand_in(absent)
    plots = types.ModuleType("utility.audio")
    vars(plots)["plot_spectrogram_to_numpy"] = None
    spec = importlib.util.find_spec("s3prl")
    assert spec is not None and spec.origin is not None
    sys.path.insert(0, str(Path(spec.origin).parent))
    sys.modules["utility.audio"] = plots


def mockingjay(layers: int, width: int) -> tuple[nn.Module, Prepare, torch.optim.Optimizer]:
    """Its model, what makes a batch's inputs from waveforms, and its optimiser.

    Settings are those of its pretrain/mockingjay/config_model.yaml and config_runner.yaml, but for the size.
    """
    with shims.applied():
        return _mockingjay(layers, width)


def _mockingjay(layers: int, width: int) -> tuple[nn.Module, Prepare, torch.optim.Optimizer]:
    _make_importable()
    task = importlib.import_module("pretrain.mockingjay.task")
    expert = importlib.import_module("pretrain.mockingjay.pretrain_expert")
    upstream = importlib.import_module("upstream.mockingjay.model")
    extracter = importlib.import_module("upstream.baseline.extracter")
    optimizers = importlib.import_module("optimizers")
    audio = {
        "kaldi": {
            "feat_type": "fbank",
            "fbank": {"num_mel_bins": 80, "frame_length": 25.0, "frame_shift": 10.0, "use_log_fbank": True},
        },
        "delta": {"order": 2, "win_length": 5},
        "cmvn": {"use_cmvn": True},
    }
    features, unit, _ = extracter.get_extracter(audio)
    config = upstream.TransformerConfig(
        {
            "hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": 12 if width == 768 else 4,
            "intermediate_size": 4 * width, "hidden_act": "gelu", "hidden_dropout_prob": 0.1,
            "attention_probs_dropout_prob": 0.1, "initializer_range": 0.02, "layer_norm_eps": 1e-12,
            "share_layer": False, "pre_layer_norm": False,
        }
    )  # fmt: skip
    config.loss = "L1"
    model = expert.TransformerForMaskedAcousticModel(config, unit, None)
    masking = {
        "loss": "L1", "sequence_length": 1500, "position_encoding_size": width, "mask_proportion": 0.15,
        "mask_consecutive_min": 7, "mask_consecutive_max": 7, "mask_allow_overlap": True, "mask_bucket_ratio": 1.5,
        "mask_frequency": 0, "noise_proportion": 0.0,
    }  # fmt: skip
    random.seed(0)

    def prepare(clips: list[Tensor]) -> tuple[Tensor, ...]:
        with torch.no_grad():
            frames = [features(clip[None]) for clip in clips]
        padded = nn.utils.rnn.pad_sequence([rows[:1500] for rows in frames], batch_first=True)
        spectrum, positions, label, attention, target = task.generate_masked_acoustic_model_data((padded,), masking)
        return spectrum, positions.expand(len(spectrum), *positions.shape), label, attention, target

    settings = {"name": "AdamW_with_schedule", "lr": 2e-4, "warmup_proportion": 0.07}
    return model, prepare, optimizers.get_optimizer([model], 1_000_000, settings)
