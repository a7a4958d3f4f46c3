# SPDX-License-Identifier: Apache-2.0
"""SUPERB-SG's head for separation (SS) and enhancement (SE): LSTMs whose masks leave one speaker of a spectrum each.

Tsai et al. 2022 (arXiv:2203.06849, section 3); sizes of s3prl@ec8064b, downstream/{separation,enhancement}_stft: three
bidirectional LSTM layers of 896, dropout 0.5 behind each, one linear map and ReLU for each speaker. Loss: Kolbaek et
al. 2017 (arXiv:1703.06284, section IV): squared errors of phase-sensitive magnitudes, in each clip's best order.
Shape letters: G seeds, K learning rates, N frames of all clips, T of one, B clips, L layers, D width, R speakers,
F bins.
"""

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence, unpack_sequence

from ...ssl import draw
from ..superb.featurizer import Featurizer, FeaturizerConfig
from ..superb.one_by_one import Lent
from ..superb.stacked import Stacked
from .stft import BINS

DROPOUT = 0.5
LAYERS = 3


class Separator(nn.Module):
    """Frames of clips to masks.

    Args:
        speakers: R. hidden: of each LSTM in each direction.
    """

    def __init__(self, layers: int, width: int, speakers: int, config: FeaturizerConfig, hidden: int) -> None:
        super().__init__()
        self.speakers = speakers
        self.featurizer = Featurizer(layers, config)
        sizes = (config.width(layers, width), *[2 * hidden] * (LAYERS - 1))
        self.lstms = nn.ModuleList(nn.LSTM(size, hidden, bidirectional=True) for size in sizes)
        self.out = nn.Linear(2 * hidden, speakers * BINS)

    def forward(self, x: Tensor, lengths: Sequence[int], key: int | None = None) -> Tensor:
        """(N, L, D), clips back to back, to masks (N, R, F), 0 or more; padding is never seen.

        Args:
            key: of dropout; without one nothing is random.
        """
        packed = pack_sequence(list(self.featurizer(x).split(list(lengths))), enforce_sorted=False)
        for number, lstm in enumerate(self.lstms):
            packed, _ = lstm(packed)
            if key is not None:
                packed = _dropped(packed, draw.key(key, "dropout", number))
        masks = PackedSequence(self.out(packed.data).relu(), *packed[1:])
        return torch.cat(unpack_sequence(masks)).unflatten(1, (self.speakers, BINS))


def _dropped(packed: PackedSequence, key: int) -> PackedSequence:
    # As in ctc_heads: a sweep that goes on must see the numbers of one that was never cut off.
    source = torch.Generator(packed.data.device).manual_seed(key)
    kept = torch.rand(packed.data.shape, generator=source, device=packed.data.device) >= DROPOUT
    return PackedSequence(packed.data * kept / (1.0 - DROPOUT), *packed[1:])


def phase_sensitive(sources: Tensor, mixture: Tensor) -> Tensor:
    """The magnitudes (R, T, F) that masks aim at: what of each source points the mixture's way, and nothing below 0.

    Args:
        sources: complex (R, T, F). mixture: complex (T, F).
    """
    return sources.abs() * (mixture.angle() - sources.angle()).cos().relu()


def permuted(masks: Tensor, mixtures: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
    """The mean over clips and speakers of squared errors, summed over bins, a frame; the least over speakers' orders.

    Args:
        masks: (N, R, F). mixtures: magnitudes (T, F) of each clip. wanted: `phase_sensitive` (R, T, F) of each clip.
    Returns: ().
    """
    losses = []
    for part, mixture, meant in zip(masks.split([len(one) for one in mixtures]), mixtures, wanted, strict=True):
        said = (part * mixture[:, None]).transpose(0, 1)  # (R, T, F)
        costs = torch.stack([(said - one).square().sum((1, 2)) for one in meant], dim=1)  # (outputs, speakers)
        places = range(len(meant))
        orders = [sum(costs[i, order[i]] for i in places) for order in itertools.permutations(places)]
        losses.append(torch.stack([torch.as_tensor(one) for one in orders]).min() / len(mixture))
    return torch.stack(losses).mean() / masks.shape[1]


class SeparatorHeads(nn.Module):
    """A separator for each seed and each learning rate; one network lends itself to each in turn.

    So only one graph is in memory, and cuDNN has the weights in one piece (as `ctc_heads.RecurrentHeads`).

    Args:
        make: a new network. seeds: heads of one seed begin alike, and drop the same units at each step.
    """

    def __init__(self, make: Callable[[], Separator], seeds: Sequence[int], heads: int) -> None:
        super().__init__()
        self.stacked = Stacked(make, seeds, heads)
        self.lent = Lent(self.stacked, make())

    @property
    def device(self) -> torch.device:
        return self.stacked.device

    def learn(
        self, group: int, x: Tensor, lengths: Sequence[int], loss: Callable[[Tensor], Tensor], key: int
    ) -> Tensor:
        """Adds to the gradients of a seed's heads.

        Args:
            loss: of masks (N, R, F), (). key: of dropout.
        Returns: (K,) the heads' losses, without a graph.
        """
        return self.lent.learn(group, lambda net: loss(net(x, lengths, key)))

    @torch.no_grad()
    def masks(self, group: int, head: int, x: Tensor, lengths: Sequence[int]) -> Tensor:
        """(N, R, F) of one head, when nothing is random."""
        return self.lent.to(group, head)(x, lengths)
