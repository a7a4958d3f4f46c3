# SPDX-License-Identifier: Apache-2.0
"""Connectionist temporal classification for many heads at once (Graves et al. 2006, ICML).

Shape letters: K heads, N frames of all rows, T frames of the longest, B rows, V symbols.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence


def ctc_losses(logits: Tensor, lengths: Sequence[int], targets: Sequence[Sequence[int]], blank: int) -> Tensor:
    """Each head's loss: of each row the nats for a symbol of its target, and the mean over rows.

    As torch's `ctc_loss` with reduction "mean" and `zero_infinity`: a row with too few frames costs nothing.

    Args:
        logits: (K, N, V), rows back to back. lengths: frames of each row. targets: symbols of each row, no blanks.
    Returns: (K,) float32.
    """
    heads, rows = len(logits), len(targets)
    scores = logits.float().log_softmax(-1).transpose(0, 1)  # (N, K, V)
    padded = pad_sequence(list(scores.split(list(lengths)))).flatten(1, 2)  # (T, B K, V)
    sizes = torch.tensor([len(target) for target in targets]).repeat_interleave(heads)
    wanted = torch.tensor([symbol for target in targets for _ in range(heads) for symbol in target])
    frames = torch.tensor(lengths).repeat_interleave(heads)
    each = F.ctc_loss(padded, wanted.to(padded.device), frames, sizes, blank, reduction="none", zero_infinity=True)
    return (each / sizes.clamp(min=1).to(each.device)).view(rows, heads).mean(0)


def frames_needed(target: Sequence[int]) -> int:
    """The fewest frames that can spell a target: one a symbol, and a blank between equal ones."""
    return len(target) + sum(one == other for one, other in pairwise(target))
