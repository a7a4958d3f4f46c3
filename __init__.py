# SPDX-License-Identifier: Apache-2.0
"""pluri: one Transformer encoder for text, speech and images, pre-trained without labels."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .ssl.encoder import Backbone

__version__ = "0.1.0"


def load(encoder: str | Path) -> "Backbone":
    """An encoder for your own code: eval mode, float32, on the CPU; `backbone(inputs, lengths)` returns an `Encoded`.

    Args:
        encoder: a run directory, a local Hugging Face folder, a hub name, `fbank`, `mfcc`, `pixels`, `random:RECIPE`.
    Raises: ValueError if nothing has this name.
    """
    from .benchmarks.encoders import load as load_encoder

    return load_encoder(encoder)
