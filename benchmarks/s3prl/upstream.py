# SPDX-License-Identifier: Apache-2.0
"""A pluri encoder as an upstream of s3prl's: a list of waveforms to the hidden states of all layers.

The contract is that of s3prl@ec8064b, upstream/example and upstream/interfaces.py (`Featurizer`), which wants as many
frames of all clips of a batch and cuts each by its samples, a frame or two behind its own last one. A clip alone and
the longest of a batch have their own frames, no more; behind those of a shorter one its last one stands, so that what
s3prl cuts too late is no other clip's doing.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ...ssl.encoder import Backbone
from ..encoders import load, modality
from ..superb.clips import pad
from ..superb.featurizer import hop


class Upstream(nn.Module):
    """A frozen encoder in s3prl's form."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        if modality(backbone) != "speech":
            raise ValueError(f"s3prl needs an encoder of speech; this one takes {modality(backbone)}")
        self.backbone = backbone
        self.rate = hop(backbone.front_end)

    def forward(self, waves: Sequence[Tensor]) -> dict[str, list[Tensor]]:
        """Waveforms (S,) at 16 kHz to `hidden_states`: the encoder's input and each block's output, (B, T, D) each."""
        inputs, lengths = pad(waves)
        encoded = self.backbone(inputs, lengths)
        rows = encoded.rows
        position = torch.arange(max(rows.lengths)).clamp(max=torch.tensor(rows.lengths)[:, None] - 1)  # (B, T)
        index = (torch.tensor(rows.starts[:-1])[:, None] + position).to(inputs.device)
        return {"hidden_states": [layer[index] for layer in encoded.packed_layers]}

    def get_downsample_rates(self, key: str) -> int:
        """Samples (16 kHz) of a frame; s3prl asks for it by this name."""
        return self.rate


def pluri(ckpt: str, model_config: str | None = None, refresh: bool = False) -> Upstream:
    """The encoder named `ckpt`, which is whatever pluri's commands take as ENCODER: s3prl calls this from its hub."""
    assert model_config is None and not refresh, "an encoder of pluri's is known by its name alone"
    return Upstream(load(ckpt))
