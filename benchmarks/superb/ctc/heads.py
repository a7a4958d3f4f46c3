# SPDX-License-Identifier: Apache-2.0
"""SUPERB's heads that say for each frame which symbol it is, many of them trained side by side.

PR: linear to 256, linear to the symbols. ASR and SF: linear to 1024, two bidirectional LSTM layers of 1024 in each
direction with dropout behind both, linear to the symbols (s3prl@ec8064b, downstream/ctc and downstream/asr/model.py,
`RNNs`).
Shape letters: G seeds, K learning rates, N frames of all rows, L layers, D width, H hidden, V symbols.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence, unpack_sequence

from ....ssl import draw
from ..featurizer import Featurizer, FeaturizerConfig, concatenate, mix
from ..one_by_one import Lent
from ..stacked import Stacked
from ..utterance.heads import begin
from .spec_augment import SpecAugmentConfig, spec_augment

DROPOUT = 0.2
Loss = Callable[[Tensor], Tensor]  # of logits (k, N, V) of some heads, their losses (k,)


class CtcHeads(nn.Module, ABC):
    """A head, with layer weights of its own, for each seed and each learning rate; parameters are (G, K, ...)."""

    @abstractmethod
    def learn(self, group: int, x: Tensor, lengths: Sequence[int], loss: Loss, key: int) -> Tensor:
        """Adds to the gradients of a seed's heads; they run one after the other where memory asks for it.

        Args:
            x: (N, L, D), rows back to back. lengths: frames of each row. key: of what is random.
        Returns: (K,) the heads' losses, without a graph.
        """

    @abstractmethod
    def logits(self, group: int, head: int, x: Tensor, lengths: Sequence[int]) -> Tensor:
        """(N, V): what one head says of each frame, when nothing is random."""

    @abstractmethod
    def shares(self) -> Tensor | None:
        """(G, K, L): each head's share of every layer; None where nothing is weighted."""


class LinearHeads(CtcHeads):
    """Two linear maps with nothing in between (PR); all heads of a seed run at once.

    Args:
        seeds: heads of one seed begin with the same weights, those that torch draws for two nn.Linear in turn.
    """

    def __init__(
        self, seeds: Sequence[int], heads: int, layers: int, width: int, symbols: int, featurizer: FeaturizerConfig
    ) -> None:
        super().__init__()
        drawn = [begin(seed, featurizer.width(layers, width), symbols) for seed in seeds]

        def stack(number: int) -> nn.Parameter:
            return nn.Parameter(torch.stack([one[number] for one in drawn])[:, None].repeat_interleave(heads, 1))

        self.into = stack(0)  # (G, K, D, H)
        self.into_bias = stack(1)  # (G, K, 1, H)
        self.out = stack(2)  # (G, K, H, V)
        self.out_bias = stack(3)  # (G, K, 1, V)
        weighted = featurizer.kind == "weighted"
        self.layers = nn.Parameter(torch.zeros(len(seeds), heads, layers)) if weighted else None  # before the softmax

    def _logits(self, group: int, heads: slice, x: Tensor) -> Tensor:
        """(k, N, V)."""
        weights = None if self.layers is None else self.layers[group : group + 1, heads]
        x = concatenate(x[None])[0] if weights is None else mix(x[None], weights)[0]  # (k, N, D)
        hidden = x @ self.into[group, heads] + self.into_bias[group, heads]
        return hidden @ self.out[group, heads] + self.out_bias[group, heads]

    def learn(self, group: int, x: Tensor, lengths: Sequence[int], loss: Loss, key: int) -> Tensor:
        losses = loss(self._logits(group, slice(None), x))
        losses.sum().backward()
        return losses.detach()

    @torch.no_grad()
    def logits(self, group: int, head: int, x: Tensor, lengths: Sequence[int]) -> Tensor:
        return self._logits(group, slice(head, head + 1), x)[0]

    def shares(self) -> Tensor | None:
        return None if self.layers is None else self.layers.detach().softmax(-1)


class Recurrent(nn.Module):
    """One head of ASR or SF."""

    def __init__(self, layers: int, width: int, symbols: int, featurizer: FeaturizerConfig, hidden: int) -> None:
        super().__init__()
        self.featurizer = Featurizer(layers, featurizer)
        self.project = nn.Linear(featurizer.width(layers, width), hidden)
        self.lstms = nn.ModuleList(nn.LSTM(size, hidden, bidirectional=True) for size in (hidden, 2 * hidden))
        self.out = nn.Linear(2 * hidden, symbols)

    def forward(
        self, x: Tensor, lengths: Sequence[int], key: int | None = None, augment: SpecAugmentConfig | None = None
    ) -> Tensor:
        """(N, L, D) to (N, V); padding is never seen. Without a key nothing is random."""
        features = self.featurizer(x)
        if key is not None and augment is not None:
            features = spec_augment(features, lengths, key, augment)
        packed = pack_sequence(list(self.project(features).split(list(lengths))), enforce_sorted=False)
        for number, lstm in enumerate(self.lstms):
            packed, _ = lstm(packed)
            if key is not None:
                packed = _dropped(packed, draw.key(key, "dropout", number))
        return torch.cat(unpack_sequence(PackedSequence(self.out(packed.data), *packed[1:])))


def _dropped(packed: PackedSequence, key: int) -> PackedSequence:
    # nn.Dropout draws from a state, and a sweep that goes on must see the numbers of one that was never cut off.
    source = torch.Generator(packed.data.device).manual_seed(key)
    kept = torch.rand(packed.data.shape, generator=source, device=packed.data.device) >= DROPOUT
    return PackedSequence(packed.data * kept / (1.0 - DROPOUT), *packed[1:])


class RecurrentHeads(CtcHeads):
    """LSTMs (ASR, SF); one network lends itself to each head in turn, on a batch that is read once.

    A network of its own keeps its weights in one piece, as cuDNN wants them, and only its own graph is in memory.

    Args:
        make: a new network. seeds: heads of one seed begin with the same weights, and have the same masks at each step.
        augment: None: features are not augmented.
    """

    def __init__(
        self, make: Callable[[], Recurrent], seeds: Sequence[int], heads: int, augment: SpecAugmentConfig | None
    ) -> None:
        super().__init__()
        self.count, self.augment = heads, augment
        self.stacked = Stacked(make, seeds, heads)
        self.lent = Lent(self.stacked, make())

    def learn(self, group: int, x: Tensor, lengths: Sequence[int], loss: Loss, key: int) -> Tensor:
        return self.lent.learn(group, lambda net: loss(net(x, lengths, key, self.augment)[None])[0])

    @torch.no_grad()
    def logits(self, group: int, head: int, x: Tensor, lengths: Sequence[int]) -> Tensor:
        return self.lent.to(group, head)(x, lengths)

    def shares(self) -> Tensor | None:
        return self.stacked.shares()
