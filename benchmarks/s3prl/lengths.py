# SPDX-License-Identifier: Apache-2.0
"""How many frames s3prl expects of a clip, and which of an encoder's they are (s3prl@ec8064b, nn/upstream.py)."""

import torch
from torch import Tensor


def expected(samples: int, rate: int) -> int:
    """Frames of a clip: one for each `rate` samples begun."""
    return -(-samples // rate)


def places(have: int, samples: int, rate: int, room: int) -> Tensor:
    """(room,) int64: which of a clip's frames stand where.

    Args:
        have: frames that the encoder made; the last one stands for those that are missing, and too many are cut.
        room: frames of the batch; behind the clip's end its last one stands too.
    """
    return torch.arange(room).clamp(max=min(have, expected(samples, rate)) - 1)
