# SPDX-License-Identifier: Apache-2.0
"""SUPERB's head for speaker verification: an x-vector network over frames, trained by additive-margin softmax.

Snyder et al. 2018 ("X-vectors", ICASSP), without batch normalisation, and Wang et al. 2018 (arXiv:1801.05599), as
s3prl@ec8064b, downstream/sv_voxceleb1/model.py, puts them together.
Shape letters: N frames of all clips, B clips, T frames of the longest, L layers, D width, C speakers.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from ..featurizer import Featurizer, FeaturizerConfig

WIDTH, POOLED = 512, 1500
# Frames that a layer looks at, how far apart they are, and what it makes of them.
CONTEXTS = ((5, 1, WIDTH), (3, 2, WIDTH), (3, 3, WIDTH), (1, 1, WIDTH), (1, 1, POOLED))
REACH = 1 + sum((count - 1) * apart for count, apart, _ in CONTEXTS)  # 15 frames make one
SCALE, MARGIN = 30.0, 0.4


class XVector(nn.Module):
    """Frames of clips to embeddings, or to losses.

    Args:
        speakers: C, that training knows.
    """

    def __init__(self, layers: int, width: int, speakers: int, config: FeaturizerConfig) -> None:
        super().__init__()
        self.featurizer = Featurizer(layers, config)
        self.into = nn.Linear(config.width(layers, width), WIDTH)
        sizes = (WIDTH, *(size for _, _, size in CONTEXTS))
        self.contexts = nn.ModuleList(
            nn.Conv1d(before, after, count, dilation=apart)
            for before, (count, apart, after) in zip(sizes, CONTEXTS, strict=False)
        )
        self.segment = nn.Linear(2 * POOLED, WIDTH)
        self.after = nn.Linear(WIDTH, WIDTH)
        self.speakers = nn.Parameter(nn.init.xavier_normal_(torch.empty(WIDTH, speakers)))

    def forward(self, x: Tensor, lengths: list[int], labels: Tensor | None = None) -> Tensor:
        """Embeddings (B, 512) of norm 1 or, with labels (B,), the mean loss ().

        Args:
            x: (N, L, D), clips back to back. A clip of fewer than 15 frames is heard as if its last one went on.
        """
        parts = self.into(self.featurizer(x)).split(lengths)
        parts = [F.pad(part.T, (0, max(0, REACH - len(part))), "replicate").T for part in parts]
        y = pad_sequence(list(parts), batch_first=True).transpose(1, 2)  # (B, 512, T)
        for layer in self.contexts:
            y = layer(y).relu()
        left = torch.tensor([max(length, REACH) - REACH + 1 for length in lengths], device=x.device)
        hidden = self.segment(pool(y, left)).relu()
        if labels is None:
            return F.normalize(hidden, dim=1)
        return am_softmax(self.after(hidden).relu(), self.speakers, labels)


def pool(x: Tensor, lengths: Tensor) -> Tensor:
    """Mean and (sample) deviation over the frames of each clip, (B, D, T) to (B, 2 D); a single frame deviates by 0."""
    valid = (torch.arange(x.shape[2], device=x.device) < lengths[:, None])[:, None]  # (B, 1, T)
    count = lengths[:, None]
    mean = torch.where(valid, x, 0.0).sum(2) / count  # (B, D)
    variance = torch.where(valid, x - mean[..., None], 0.0).square().sum(2) / (count - 1).clamp(min=1)
    # The root's slope at 0 is infinite, and units that ReLU shuts off do not vary.
    deviation = torch.where(variance > 0, variance, 1.0).sqrt() * (variance > 0)
    return torch.cat([mean, deviation], dim=1)


def am_softmax(x: Tensor, speakers: Tensor, labels: Tensor) -> Tensor:
    """() cross-entropy of cosines, of which the right one is lowered by the margin, in nats (arXiv:1801.05599, eq. 6).

    Args:
        x: (B, D). speakers: (D, C), one direction each. labels: (B,) int64.
    """
    cosines = F.normalize(x, dim=1) @ F.normalize(speakers, dim=0)  # (B, C)
    margin = MARGIN * F.one_hot(labels, cosines.shape[1])
    return F.cross_entropy(SCALE * (cosines - margin), labels)
