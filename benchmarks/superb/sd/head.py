# SPDX-License-Identifier: Apache-2.0
"""SUPERB's head for diarization: one LSTM layer says who speaks in each frame, whatever order speakers come in.

Loss: Fujita et al. 2019 (arXiv:1909.05952, section 2.2); sizes of s3prl@ec8064b, downstream/diarization.
Shape letters: N frames of all clips, B clips, T frames of the longest, L layers, D width, R speakers.
"""

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from ..featurizer import Featurizer, FeaturizerConfig

WIDTH = 512


class Diarizer(nn.Module):
    """Frames of clips to who speaks in them, or to losses.

    Args:
        speakers: R.
    """

    def __init__(self, layers: int, width: int, speakers: int, config: FeaturizerConfig) -> None:
        super().__init__()
        self.featurizer = Featurizer(layers, config)
        self.lstm = nn.LSTM(config.width(layers, width), WIDTH, batch_first=True)
        self.out = nn.Linear(WIDTH, speakers)

    def forward(self, x: Tensor, lengths: list[int], targets: Tensor | None = None) -> Tensor:
        """Logits (B, T, R), meaningless beyond a clip's end, or, with targets (B, T, R), the mean loss ().

        Args:
            x: (N, L, D), clips back to back. The LSTM runs forward, so that padding behind a clip changes nothing.
        """
        logits = self.out(self.lstm(pad_sequence(list(self.featurizer(x).split(lengths)), batch_first=True))[0])
        if targets is None:
            return logits
        losses, _ = permuted(logits, targets, lengths)
        return losses.sum() / sum(lengths)


def permuted(logits: Tensor, targets: Tensor, lengths: list[int]) -> tuple[Tensor, Tensor]:
    """The least binary cross-entropy over all orders of each clip's speakers, and that order.

    Args:
        logits, targets: (B, T, R); targets are 0 at padding.
    Returns: (B,) nats, the mean over speakers and the sum over frames, and (B, R) the target of each output.
    """
    orders = torch.tensor(list(itertools.permutations(range(logits.shape[2]))), device=logits.device)  # (R!, R)
    valid = torch.arange(logits.shape[1], device=logits.device) < torch.tensor(lengths, device=logits.device)[:, None]
    silent = (F.softplus(logits) * valid[..., None]).sum(1)  # (B, R): what each output costs if its speaker is silent
    costs = silent[..., None] - logits.transpose(1, 2) @ targets  # (B, outputs, speakers)
    outputs = torch.arange(logits.shape[2], device=logits.device)
    least, which = costs[:, outputs, orders].mean(-1).min(1)  # over (B, R!)
    return least, orders[which]


def right(logits: Tensor, targets: Tensor, lengths: list[int]) -> Tensor:
    """(B,) int64: how many decisions of a clip's frames and speakers are right, in the order of the least loss."""
    _, order = permuted(logits, targets, lengths)
    wanted = targets.gather(2, order[:, None].expand_as(targets))
    valid = torch.arange(logits.shape[1], device=logits.device) < torch.tensor(lengths, device=logits.device)[:, None]
    return (((logits > 0) == (wanted > 0.5)) & valid[..., None]).sum((1, 2))
